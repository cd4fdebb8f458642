"""Frames of a folder, and what a configuration refuses."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import IngestError
from ingest.framefile import Field, FrameFile
from ingest.sources import RemoteSource, SourceConfig, open_source

FIELD = Field(run=94, camcol=1, field=12, rerun="301")
NAME = "frame-r-000094-1-0012"
LAYOUTS = [
    folder + NAME + suffix
    for folder in ("", "301/94/1/", "boss/photoObj/frames/301/94/1/")
    for suffix in (".fits", ".fits.bz2")
]
CONTENT = b"a frame"


def read(source: Any, field: Field = FIELD) -> FrameFile:
    file = source.read(field, "r")
    assert file is not None
    return file


@pytest.mark.parametrize("path", LAYOUTS)
def test_a_folder_gives_the_file_of_every_layout(tmp_path: Path, path: str) -> None:
    source = open_source(SourceConfig(root=str(tmp_path)))
    assert source.read(FIELD, "r") is None
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(CONTENT)
    assert read(source) == FrameFile(Path(path).name, str(tmp_path / path), CONTENT, cached=False)
    assert source.read(FIELD, "g") is None


def test_what_a_folder_gives_does_not_depend_on_what_was_read_before(tmp_path: Path) -> None:
    other = Field(run=94, camcol=1, field=13, rerun="301")
    for path in (*LAYOUTS, LAYOUTS[-1].replace("0012", "0013")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    source = open_source(SourceConfig(root=str(tmp_path)))
    before = read(source)
    assert read(source, other).name == "frame-r-000094-1-0013.fits.bz2"
    assert read(source) == before


@pytest.mark.parametrize("rerun", ["..", "../301", "301/..", "/etc", "", "3 1", "301\n"])
def test_a_rerun_cannot_lead_out_of_the_root(tmp_path: Path, rerun: str) -> None:
    source = open_source(SourceConfig(root=str(tmp_path)))
    with pytest.raises(IngestError, match="rerun of letters and digits") as caught:
        source.read(Field(94, 1, 12, rerun), "r")
    assert "\n" not in str(caught.value)
    with pytest.raises(IngestError, match="band of letters and digits"):
        source.read(FIELD, "../r")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="expected a folder of frames, found none"):
        open_source(SourceConfig(root=str(tmp_path / "none")))


@pytest.mark.parametrize(
    "root",
    [
        "pipe://cat /etc/passwd",
        "simplecache::https://host/frames",
        "filecache::s3://bucket",
        "zip://frames::https://host/a.zip",
        "blockcache://x",
        "reference://x",
        "file:///etc",
        "FILE:///etc",
        "local:///etc",
        "dir:///etc",
        "simplecache::/etc",
        "://x",
        "https://host/frames?token=1",
        "https://host/frames#here",
        "https://",
        "s3:///frames",
        "http://host:99999/frames",
        "http://[host/frames",
    ],
)
def test_urls_that_chain_execute_or_cannot_be_joined_are_refused(root: str) -> None:
    with pytest.raises(IngestError, match="--frames") as caught:
        SourceConfig(root=root)
    assert "\n" not in str(caught.value)


def test_an_unknown_protocol_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="not a URL that fsspec knows") as caught:
        open_source(SourceConfig(root="nosuch://host/frames", cache=tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"connections": 0}, {"tries": 0}, {"cache_bytes": 0}, {"timeout_s": float("nan")}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(IngestError, match="expected"):
        SourceConfig(root="https://host", **wrong)


def test_a_configuration_travels_and_gives_one_source_a_process(tmp_path: Path) -> None:
    config = SourceConfig(root="https://host/frames", cache=tmp_path)
    assert open_source(pickle.loads(pickle.dumps(config))) is open_source(config)


def test_the_default_cache_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    RemoteSource(SourceConfig(root="https://host/frames"))
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IngestError, match="another user's"):
        RemoteSource(SourceConfig(root="https://host/frames"))
