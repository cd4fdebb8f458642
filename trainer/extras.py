"""Packages that few commands need: imported when they are, or told how to get them."""

import importlib
import warnings
from typing import Any

from .errors import TrainerError


def require(module: str, *, extra: str, needed_by: str) -> Any:
    """An optional package; TrainerError says which extra installs it. One that is installed but broken stays a bug."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # packages warn of parts of theirs that nobody here asks for
            return importlib.import_module(module)
    except ModuleNotFoundError as err:
        if err.name != module:
            raise
        raise TrainerError(
            f"{needed_by}: expected the package {module}, got none; pip install 'skymill[{extra}]'"
        ) from err
