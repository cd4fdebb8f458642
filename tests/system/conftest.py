"""What tests of whole ingest jobs share: a survey of many small fields, and what must come of it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `jobs` and `chaos` are also read by a script beside them

import jobs


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> jobs.Survey:
    """Forty fields of five runs; read only."""
    return jobs.write_survey(tmp_path_factory.mktemp("survey") / "small")


@pytest.fixture(scope="session")
def reference(survey: jobs.Survey) -> dict[str, dict[str, str]]:
    """By container, every file of the dataset: made in one process, without Ray."""
    return jobs.references(survey)
