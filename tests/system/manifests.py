"""The files of cluster/kubernetes as objects, and what a cluster would say to them, told offline.

Core kinds are held to Kubernetes' own schemas (package kubernetes-validate), JobSets to the models that Kubeflow
publishes (kubeflow-trainer-api). No package has KubeRay's schema: the fields of a RayJob are listed here, as KubeRay's
API reference has them (v1.6), and its pods are held to the core schema.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

Object = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "cluster/kubernetes"
VERSIONS = ("1.31", kubernetes_validate.latest_version())  # of Kubernetes: the oldest and the newest

# What `kubectl wait` waits for until an object is done; status fields as KubeRay's, JobSet's and Kubernetes' API
# references have them.
DONE = {
    "RayJob": "jsonpath={.status.jobStatus}=SUCCEEDED",
    "JobSet": "jsonpath={.status.terminalState}=Completed",
    "Job": "condition=Complete",
}
_RESOURCES = {"cpu", "memory", "storage", "nvidia.com/gpu"}  # a pod that asks for another waits for it for ever

# The schemas take megabytes, and each check would read them anew.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)

_INTEGER, _STRING, _FLAG, _OBJECT, _STRINGS = (
    {"type": "integer"},
    {"type": "string"},
    {"type": "boolean"},
    {"type": "object"},
    {"type": "object", "additionalProperties": {"type": "string"}},
)


def _closed(required: tuple[str, ...] = (), **fields: Object) -> Object:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


_AUTOSCALER = _closed(
    resources=_OBJECT,
    image=_STRING,
    imagePullPolicy=_STRING,
    securityContext=_OBJECT,
    idleTimeoutSeconds=_INTEGER,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
    env={"type": "array"},
    envFrom={"type": "array"},
    volumeMounts={"type": "array"},
)
_HEAD = _closed(
    ("template",),
    template=_OBJECT,
    headService=_OBJECT,
    enableIngress=_FLAG,
    rayStartParams=_STRINGS,
    serviceType=_STRING,
)
_WORKERS = _closed(
    ("template", "groupName", "maxReplicas"),
    template=_OBJECT,
    groupName=_STRING,
    suspend=_FLAG,
    replicas=_INTEGER,
    minReplicas=_INTEGER,
    maxReplicas=_INTEGER,
    numOfHosts=_INTEGER,
    idleTimeoutSeconds=_INTEGER,
    rayStartParams=_STRINGS,
    scaleStrategy=_OBJECT,
)
_CLUSTER = _closed(
    ("headGroupSpec",),
    suspend=_FLAG,
    managedBy=_STRING,
    autoscalerOptions=_AUTOSCALER,
    authOptions=_closed(mode={"enum": ["disabled", "token"]}, secretName=_STRING, enableK8sTokenAuth=_FLAG),
    headServiceAnnotations=_STRINGS,
    enableInTreeAutoscaling=_FLAG,
    gcsFaultToleranceOptions=_OBJECT,
    headGroupSpec=_HEAD,
    rayVersion=_STRING,
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)
_RAY_JOB = _closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_closed(("name",), name=_STRING, labels=_STRINGS, annotations=_STRINGS),
    spec=_closed(
        activeDeadlineSeconds=_INTEGER,
        backoffLimit=_INTEGER,
        rayClusterSpec=_CLUSTER,
        submitterPodTemplate=_OBJECT,
        metadata=_STRINGS,
        clusterSelector=_STRINGS,
        submitterConfig=_closed(backoffLimit=_INTEGER),
        managedBy=_STRING,
        deletionStrategy=_OBJECT,
        entrypoint=_STRING,
        runtimeEnvYAML=_STRING,
        jobId=_STRING,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        entrypointResources=_STRING,
        entrypointNumCpus={"type": "number"},
        entrypointNumGpus={"type": "number"},
        ttlSecondsAfterFinished=_INTEGER,
        shutdownAfterJobFinishes=_FLAG,
        suspend=_FLAG,
    ),
)


def read(name: str) -> Object:
    """An object of cluster/kubernetes by the name of its file, anchors written out."""
    parsed: Object = json.loads(json.dumps(yaml.safe_load((FOLDER / name).read_text())))
    return parsed


def pod_templates(manifest: Object) -> dict[str, Object]:
    """Every pod that an object makes, by a name for it."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Job":
            return {"job": spec["template"]}
        case "JobSet":
            return {each["name"]: each["template"]["spec"]["template"] for each in spec["replicatedJobs"]}
        case "RayJob":
            cluster = spec["rayClusterSpec"]
            workers = {each["groupName"]: each["template"] for each in cluster["workerGroupSpecs"]}
            return {"submitter": spec["submitterPodTemplate"], "head": cluster["headGroupSpec"]["template"], **workers}
    return {}


def check(manifest: Object, version: str) -> None:
    """Raise ValueError where a cluster would refuse an object, ignore a field, or wait for a resource it never has."""
    if unknown := _resources(manifest) - _RESOURCES:
        raise ValueError(f"{manifest['kind']}: resources: expected some of {_RESOURCES}, got {unknown}")
    try:
        if manifest["kind"] == "JobSet":
            _check_jobset(manifest, version)
        elif manifest["kind"] == "RayJob":
            jsonschema.validate(manifest, _RAY_JOB)
            autoscaler = {"name": "autoscaler", **manifest["spec"]["rayClusterSpec"]["autoscalerOptions"]}
            for other in ("idleTimeoutSeconds", "upscalingMode", "version"):
                autoscaler.pop(other, None)
            for pod in (*pod_templates(manifest).values(), {"spec": {"containers": [autoscaler]}}):
                _core({"apiVersion": "v1", "kind": "PodTemplate", "template": pod}, version)
        else:
            _core(manifest, version)
    except jsonschema.ValidationError as err:
        raise ValueError(f"{manifest['kind']}: {err.json_path}: {err.message}") from err


def _check_jobset(manifest: Object, version: str) -> None:
    if JobsetV1alpha2JobSet.from_dict(manifest).to_dict() != manifest:  # what it does not know, it drops
        raise ValueError("JobSet: a field is not one of v1alpha2's")
    for each in manifest["spec"]["replicatedJobs"]:
        _core({"apiVersion": "batch/v1", "kind": "Job", **each["template"]}, version)


def _resources(value: Any) -> set[str]:
    """Names of all resources that are asked for, at any depth."""
    if not isinstance(value, dict | list):
        return set()
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return {name for key, each in inner for name in (each if key in ("requests", "limits") else _resources(each))}


def _core(manifest: Object, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def misspelt(manifest: Object) -> Iterator[tuple[str, Object]]:
    """The object once for each of its fields, that field misspelt, with its path. Maps of free keys are left out."""
    free = {"labels", "rayStartParams"}

    def paths(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            if isinstance(key, str):
                yield (*path, key)
            if key not in free:
                yield from paths(inner, (*path, key))

    for path in paths(manifest, ()):
        if path[0] not in ("apiVersion", "kind"):
            copy = json.loads(json.dumps(manifest))
            holder = copy
            for key in path[:-1]:
                holder = holder[key]
            holder[f"{path[-1]}x"] = holder.pop(path[-1])
            yield ".".join(map(str, path)), copy
