"""Fixtures that more than one room's tests share."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Without a GPU, Triton kernels are interpreted; it must be said before triton is imported, in whichever test that is.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A first call compiles kernels or builds tables; on a busy machine that is slower than Hypothesis allows an example.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def survey_data() -> Path:
    """The folder of real survey data; skips where it is absent, fails where CI promises it."""
    folder = Path(os.environ.get("SKYMILL_DATA", CHECKOUT.parent / "shared" / "data"))
    if (folder / "sdss").is_dir():
        return folder
    reason = f"no real survey data at {folder}; set SKYMILL_DATA to the folder that holds sdss/ and catalogs/"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
