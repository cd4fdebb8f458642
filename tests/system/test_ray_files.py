"""The files of `cluster/ray` against Ray's own code: what a job carries, and the cluster that `ray up` would start."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import jobs
import pytest
import yaml
from botocore.session import Session
from botocore.validate import ParamValidator
from commands import told
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed
from ray.autoscaler._private.providers import _get_default_config
from ray.autoscaler._private.util import fillout_defaults, validate_config
from ray.runtime_env import RuntimeEnv

RAY = jobs.CHECKOUT / "cluster/ray"


def _read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((RAY / name).read_text())
    return loaded


def _carried(checkout: Path, target: Path) -> Path:
    """The package that `ray job submit --working-dir CHECKOUT --runtime-env FILE` uploads."""
    from ray._private.runtime_env.packaging import create_package

    def upload(working_dir: str, excludes: list[str], is_file: bool = False) -> None:
        create_package(working_dir, target, include_gitignore=True, include_parent_dir=False, excludes=excludes)

    environment = _read("runtime-env.yaml") | {"working_dir": str(checkout)}
    upload_working_dir_if_needed(environment, include_gitignore=True, upload_fn=upload)
    return target


def test_a_job_carries_the_code_that_it_runs_and_nothing_else(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=jobs.CHECKOUT, capture_output=True, text=True, check=True)
    names = {name for name in tracked.stdout.split("\0") if name and (jobs.CHECKOUT / name).is_file()}
    others = {"runs/moco/last.pt", "data/ingest/frame.fits", "ingest/__pycache__/run.pyc", ".venv/bin/python", "x"}
    for name in names:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(jobs.CHECKOUT / name, checkout / name)
    for name in others:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    package = _carried(checkout, tmp_path / "package.zip")
    with zipfile.ZipFile(package) as carried:
        found = set(carried.namelist())
    assert found == {name for name in names if name.startswith(("ingest/", "sharding/"))}
    assert package.stat().st_size < 5e6


def test_ray_takes_the_runtime_environment_and_would_refuse_another() -> None:
    environment = _read("runtime-env.yaml")
    assert dict(RuntimeEnv(**environment)) == environment
    with pytest.raises(TypeError, match=r"excludes"):
        RuntimeEnv(**environment | {"excludes": "data"})


def _cluster(**changes: Any) -> dict[str, Any]:
    return fillout_defaults(_read("autoscaler.yaml") | changes)


def test_ray_up_takes_the_cluster_and_would_refuse_a_misspelt_one() -> None:
    validate_config(_cluster())
    with pytest.raises(Exception, match=r"'idle_timeout_minuts' was unexpected"):
        validate_config(_cluster(idle_timeout_minuts=5))


def test_nothing_of_the_cluster_is_left_to_a_default_that_would_harm() -> None:
    """What Ray fills in for AWS installs another Ray over that of the image."""
    defaults = _get_default_config({"type": "aws"})
    assert any("wheels" in command for command in defaults["setup_commands"])
    cluster = _cluster()
    assert "wheels" not in str(cluster)
    assert cluster["setup_commands"] == cluster["worker_setup_commands"] == []


@pytest.mark.parametrize("node", ["head", "worker"])
def test_ec2_takes_each_kind_of_node(node: str) -> None:
    shape = Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    kind = _read("autoscaler.yaml")["available_node_types"][node]["node_config"]
    counts = {"MinCount": 1, "MaxCount": 1}
    assert ParamValidator().validate(kind | counts, shape).generate_report() == ""
    assert "Unknown" in ParamValidator().validate(kind | counts | {"InstanceTyp": "m"}, shape).generate_report()


def test_the_head_runs_no_strips_and_every_ray_wants_the_token() -> None:
    """Where `ray up` starts them, as by hand."""
    cluster = _read("autoscaler.yaml")
    assert cluster["available_node_types"][cluster["head_node_type"]]["resources"] == {"CPU": 0}
    head, worker = (cluster[f"{kind}_start_ray_commands"][-1].split() for kind in ("head", "worker"))
    by_hand = told("RAY_AUTH_MODE=token ray start --head").split()
    assert by_hand == ["RAY_AUTH_MODE=token", "ray", "start", "--head", "--num-cpus=0"]
    assert set(by_hand) <= set(head)
    assert set(told("RAY_AUTH_MODE=token ray start --address", {"HEAD": "$RAY_HEAD_IP"}).split()) <= set(worker)
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_what_ray_up_installs_is_what_the_tests_run_with() -> None:
    """On the machine that starts the head, and on the head that starts the others."""
    here, head = told("pip install "), _read("autoscaler.yaml")["head_setup_commands"][-1]
    (pin,) = (line for line in (jobs.CHECKOUT / "constraints.txt").read_text().split() if line.startswith("boto3=="))
    assert (here, head) == (f"pip install {pin}", f"pip install --user {pin}")


def test_the_image_has_what_ray_s_launcher_calls_in_it() -> None:
    """It copies into the container with rsync, and the head reaches the workers with ssh."""
    dockerfile = (jobs.CHECKOUT / "cluster/Dockerfile").read_text()
    assert {"openssh-client", "rsync"} <= set(dockerfile.split())


def test_no_secret_stands_in_the_files() -> None:
    text = "".join(path.read_text() for path in RAY.iterdir())
    assert not re.search(r"AKIA|ssh_private_key|\b\d{12}\b|arn:|[0-9a-fA-F]{32}|(sg|ami|subnet|fs)-[0-9a-f]{6}", text)
