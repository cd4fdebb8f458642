"""The error that a user of a dataset can mend."""


class DatasetError(ValueError):
    """A dataset is missing, damaged or of another kind; the text says where, what was expected and what to do."""
