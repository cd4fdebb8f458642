"""The one exception that `augment` raises for what a user can put right."""


class AugmentError(ValueError):
    """Its text is one line: where, what was expected, what came, what to do."""
