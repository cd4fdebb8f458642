"""Which peers there are to be measured."""

import importlib


def is_installed(package: str) -> bool:
    """Whether it can be imported, which is tried: what is there and broken is as good as not there."""
    try:
        importlib.import_module(package)
    except Exception:  # whatever another library's import does
        return False
    return True
