"""Which Skymill writes a file: said here, so that it is the same in a checkout as where it is installed."""

import numpy as np
import torch

VERSION = "0.1.0"  # that of pyproject.toml


def versions() -> dict[str, str]:
    """What a result may depend on, by name."""
    return {"skymill": VERSION, "torch": str(torch.__version__), "numpy": np.__version__}
