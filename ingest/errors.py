"""The error that a user of ingest can mend."""


class IngestError(ValueError):
    """Bad input to ingest; the text says in one line where, what was expected, what came and what to do."""
