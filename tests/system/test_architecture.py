"""The architecture, as a test reads it: which room may import which, and what a training node need not have."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.version import VERSION

CHECKOUT = Path(__file__).resolve().parents[2]

ALLOWED = {
    "sharding": set(),
    "augment": set(),
    "ingest": {"sharding"},
    "trainer": {"sharding", "augment"},
    "benchmarks": {"ingest", "sharding", "augment", "trainer"},
}
HEAVY = ("ray", "nvidia", "zarr", "webdataset", "astropy", "galsim", "h5py", "aiohttp", "s3fs")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_one_way(room: str) -> None:
    files = list((CHECKOUT / room).rglob("*.py"))
    assert files
    for path in files:
        foreign = set(_imports(path)) & set(ALLOWED) - {room}
        assert foreign <= ALLOWED[room], f"{path.relative_to(CHECKOUT)} imports {foreign - ALLOWED[room]}"


def test_every_room_of_the_map_is_a_folder_and_no_other_package_is() -> None:
    packages = {path.parent.name for path in CHECKOUT.glob("*/__init__.py")}
    assert packages == set(ALLOWED)


@pytest.mark.parametrize("room", ["sharding", "augment", "trainer"])
def test_a_training_node_needs_none_of_the_heavy_packages(room: str) -> None:
    """Import every module of the room where the heavy packages cannot be found."""
    modules = sorted(
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
        for path in (CHECKOUT / room).rglob("*.py")
        if path.name != "__main__.py"
    )
    script = f"""
import importlib, sys
for name in {HEAVY!r}:
    sys.modules[name] = None  # import now raises ModuleNotFoundError
for name in {modules!r}:
    importlib.import_module(name.removesuffix(".__init__"))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ["ingest", "sharding", "trainer", "benchmarks"])
def test_every_command_has_help(room: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", room, "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m {room}" in done.stdout


def test_nothing_from_outside_is_unpickled() -> None:
    for room in ALLOWED:
        for path in (CHECKOUT / room).rglob("*.py"):
            text = path.read_text()
            assert not re.search(r"pickle\.loads?\(|Unpickler\(|allow_pickle=True|pipe:", text), path
            assert text.count("torch.load(") == text.count("weights_only=True"), path


def test_the_version_in_files_is_the_package_s() -> None:
    stated = re.search(r'^version = "(.*)"', (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated is not None
    assert stated[1] == VERSION
