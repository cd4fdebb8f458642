"""The error that a user of the trainer can mend, and all that may reach a user in one line."""

from augment import AugmentError
from sharding import DatasetError


class TrainerError(ValueError):
    """A run cannot begin or go on; the text says where, what was expected, what came and what to do."""


#: What the command line reports in one line, a full or unwritable disk too; anything else is a bug and keeps its
#: traceback.
USER_ERRORS = (TrainerError, DatasetError, AugmentError, OSError)
