"""What all tests of views share."""

import pytest
import torch
from hypothesis import settings

# A first call builds tables; on a busy machine that is slower than Hypothesis allows an example to be.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(20210)
