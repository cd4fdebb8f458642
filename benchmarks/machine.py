"""What the rates were measured on: enough to compare two results, nothing that names a machine or its owner."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "numpy", "numba", "pyarrow", "google-crc32c", "ray", "astropy", "scipy", "indexed_bzip2", "reproject",
    "webdataset", "nvidia-dali-cuda130", "zarr", "h5py", "tensorstore", "triton", "kornia", "scikit-image",
    "lightly", "solo-learn",
)  # fmt: skip
_VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")  # what makes the arithmetic fast


def describe() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, accelerators, and versions (None: not installed).

    ``cpu_model`` tells processors apart whose name is cut short, as in many virtual machines.
    """
    import torch

    cpu = _cpuinfo()
    flags = cpu.get("flags", cpu.get("Features", "")).split()  # ARM calls them features
    return {
        "cpu": cpu.get("model name") or platform.processor(),
        "cpu_model": " ".join(cpu[key] for key in ("vendor_id", "cpu family", "model", "stepping") if key in cpu),
        "cpu_vectors": " ".join(each for each in _VECTORS if each in flags),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "torch_threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "gpus": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
        "driver": _driver() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES} | {"SWarp": _swarp_version()},
    }


def commit() -> str | None:
    """The commit of the checkout that this file lies in, "-dirty" where it was changed since; None outside one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return _said_by(command, cwd=Path(__file__).parent)


def _said_by(command: Sequence[str], cwd: Path | None = None) -> str | None:
    """What a program prints; None where it is missing or fails."""
    try:
        found = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _cpuinfo() -> dict[str, str]:
    """Of the first processor, by the kernel's names; empty where there is no /proc."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _driver() -> str | None:
    said = _said_by(("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"))
    return said.splitlines()[0] if said else None


def _swarp_version() -> str | None:
    from .ingesting.swarp import program

    said = _said_by((command, "-v")) if (command := program()) else None
    found = re.search(r"version (\S+)", said or "")
    return found[1] if found else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
