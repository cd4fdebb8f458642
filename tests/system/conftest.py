"""What tests of whole ingest jobs share: a survey of many small fields, and what must come of it."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `jobs` and `chaos` are also read by a script beside them

import jobs


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Programs that tests start heed SIGINT, also where a script has begun the tests in its background: there a shell
    lets it be ignored, by all that they start, too."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> jobs.Survey:
    """Forty fields of five runs; read only."""
    return jobs.write_survey(tmp_path_factory.mktemp("survey") / "small")


@pytest.fixture(scope="session")
def reference(survey: jobs.Survey) -> dict[str, dict[str, str]]:
    """By container, every file of the dataset: made in one process, without Ray."""
    return jobs.references(survey)
