"""Which Skymill makes a dataset."""

from importlib.metadata import PackageNotFoundError, version


def made_by() -> str:
    """The name and version that go into files."""
    try:
        return f"skymill {version('skymill')}"
    except PackageNotFoundError:
        return "skymill from a checkout"
