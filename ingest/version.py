"""Which Skymill makes a dataset: written here, so that it is the same in a checkout as where it is installed."""

VERSION = "0.1.0"  # that of pyproject.toml


def made_by() -> str:
    """The name and version that go into files."""
    return f"skymill {VERSION}"
