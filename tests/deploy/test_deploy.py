"""What deploy/ holds is what its tools take: as far as they say so without a cluster."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from support.documents import Command

from coordinator.job.spec import read_yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
MANIFESTS = sorted(p for p in KUBERNETES.rglob("*.yaml") if p.name != "kustomization.yaml")
BIN = Path(sys.executable).parent

# fields of KubeRay's ray.io/v1 (ray-operator/apis/ray/v1): kubernetes-validate has no schema of it
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
JOB = {
    *("entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"),
    "rayClusterSpec",
}


def said_by(*command: str | Path) -> tuple[int, str, str]:
    """Run a tool; return its exit code and what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def pods(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Check a RayCluster's own fields; yield the pods that it describes."""
    assert spec.keys() <= CLUSTER
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == ray.__version__
    assert spec["headGroupSpec"].keys() <= HEAD
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups[1:]:
        assert group.keys() <= WORKERS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        metadata = {"name": "pod", **group["template"].get("metadata", {})}
        spec = group["template"]["spec"]
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: str(p.relative_to(KUBERNETES)))
def test_kubernetes_takes_every_manifest(path: Path) -> None:
    for document in documents(path):
        kind = document["kind"]
        if kind == "RayCluster":
            found = list(pods(document["spec"]))
        elif kind == "RayJob":
            assert document["spec"].keys() <= JOB
            found = list(pods(document["spec"]["rayClusterSpec"]))
        else:
            found = [document]
        for one in found:
            kubernetes_validate.validate(one, "1.34", strict=True)
            if one["kind"] == "Pod":
                mounted_and_restricted(one["spec"])


def mounted_and_restricted(pod: dict[str, Any]) -> None:
    """Every mount has its volume, and the pod passes the `restricted` pod security standard."""
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        security = container["securityContext"]
        assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_what_is_started_in_a_cluster_can_run(real_data: Path) -> None:
    job = documents(KUBERNETES / "jobs" / "train.yaml")[0]["spec"]["entrypoint"]
    (shown,) = re.findall(r"errorcast train [^;&|]*", job)
    script = (DEPLOY / "slurm" / "errorcast.sbatch").read_text(encoding="utf-8")
    (arguments,) = re.findall(r": sbatch \S+ (.*)", script)
    for words in (shown.split(), ["errorcast", "train", *arguments.split()]):
        assert len(Command.parse(words).jobs(data_dir=str(real_data))) == 1


@pytest.mark.blocks
def test_the_services_flags_are_those_of_the_command_line() -> None:
    cluster = documents(KUBERNETES / "base" / "cluster.yaml")[0]
    head = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    service = next(container for container in head if container["name"] == "service")
    unit = (DEPLOY / "systemd" / "errorcast.service").read_text(encoding="utf-8")
    used = {argument.partition("=")[0] for argument in service["args"]}
    used |= set(
        re.findall(r" (--[a-z-]+) ", unit.partition("ExecStart=")[2].partition("Restart")[0])
    )
    _, shown, _ = said_by(BIN / "errorcast", "serve", "--help")
    assert used <= set(re.findall(r"--[a-z-]+", shown))
    assert {"--tls-cert", "--tls-key", "--token-file", "--ray-address"} <= used


@pytest.mark.parametrize("overlay", ["base", "gpu"])
def test_kustomize_builds_every_overlay(overlay: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    code, printed, error = said_by("kubectl", "kustomize", KUBERNETES / overlay)
    assert code == 0, error
    built = list(yaml.safe_load_all(printed))
    cluster = next(document for document in built if document["kind"] == "RayCluster")
    image = "registry.example.com/errorcast:" + ("cuda" if overlay == "gpu" else "cpu")
    for pod in pods(cluster["spec"]):
        kubernetes_validate.validate(pod, "1.34", strict=True)
        assert {container["image"] for container in pod["spec"]["containers"]} == {image}
    workers = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    gpus = workers["resources"]["limits"].get("nvidia.com/gpu")
    assert gpus == ("1" if overlay == "gpu" else None)


def test_hadolint_takes_the_image() -> None:
    code, printed, _ = said_by(BIN / "hadolint", DEPLOY / "image" / "Dockerfile")
    assert code == 0, printed
    text = (DEPLOY / "image" / "Dockerfile").read_text(encoding="utf-8")
    assert "\nUSER 1000\n" in text
    ignored = (DEPLOY.parent / ".dockerignore").read_text(encoding="utf-8")
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M):
        for name in source.split():
            assert (DEPLOY.parent / name).exists()
            assert f"!{name}\n" in ignored


@pytest.mark.parametrize("path", sorted((DEPLOY / "ray-up").glob("*.yaml")), ids=lambda p: p.stem)
def test_ray_up_takes_every_cluster(path: Path) -> None:
    config = prepare_config(yaml.safe_load(path.read_text(encoding="utf-8")))
    validate_config(config)
    assert any("auth_token" in target for target in config["file_mounts"])


def stand_in(folder: Path, name: str, script: str) -> None:
    """Put a program into a folder: Slurm is not here."""
    (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.mark.blocks
def test_slurms_signal_reaches_the_run_and_not_ray(tmp_path: Path) -> None:
    """Ray would end at SIGTERM, and the run with it, before its state is saved."""
    script = DEPLOY / "slurm" / "errorcast.sbatch"
    assert "\n#SBATCH --signal=B:TERM@" in script.read_text(encoding="utf-8")
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin", "scontrol", "echo node1; echo node2")
    stand_in(tmp_path / "bin", "srun", 'while [[ $1 == --* ]]; do shift; done; exec "$@"')
    stand_in(tmp_path / "bin", "hostname", "echo 10.0.0.1 10.1.0.1")
    ray = "trap 'echo ray ends' TERM; while [[ $1 != -- ]]; do shift; done; shift; \"$@\""
    stand_in(tmp_path / "bin", "ray", ray)
    run = 'trap "echo saved; exit 130" TERM; echo "$*"; while :; do sleep 0.1; done'
    stand_in(tmp_path / "bin", "errorcast", run)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]"}
    slurm |= {"SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "2"}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    job = subprocess.Popen(
        ["bash", script, "digits", "--set", "options.layers=4"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    started = job.stdout.readline()
    assert started == "train digits --set options.layers=4 --ray-address 10.0.0.1:20007\n"
    job.terminate()
    assert job.communicate(timeout=30)[0] == "saved\n"
    assert job.returncode == 130
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


@pytest.mark.parametrize(
    "path", [*DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.sbatch")], ids=lambda p: p.name
)
def test_shells_take_every_script(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = (DEPLOY / "systemd" / "errorcast.service").read_text(encoding="utf-8")
    there = tmp_path / "errorcast.service"  # as installed: its program is there
    there.write_text(unit.replace("/opt/errorcast/.venv/bin/errorcast", sys.executable))
    _, _, printed = said_by("systemd-analyze", "verify", "--man=no", there)
    said = [line for line in printed.splitlines() if "errorcast.service" in line]
    assert not said, said


def test_dashboard_and_scrape_know_the_services_own_names() -> None:
    from coordinator.service.web import metrics

    assert metrics.__file__ is not None
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    known = set(re.findall(r'"(errorcast_[a-z_]+)"', source))
    text = (DEPLOY / "monitoring" / "grafana-dashboard.json").read_text(encoding="utf-8")
    used = {name.removesuffix("_bucket") for name in re.findall(r"errorcast_[a-z_]+", text)}
    assert used <= known
    assert known - used == set()
    panels = json.loads(text)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    scrape = read_yaml(DEPLOY / "monitoring" / "prometheus.yaml")["scrape_configs"]
    assert scrape[0]["authorization"]["type"] == "Bearer"
