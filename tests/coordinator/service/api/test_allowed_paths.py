"""Which paths a job may name, and where its code runs."""

import inspect
from pathlib import Path

import pytest
from errorcast.v1.job_pb2 import JobSpec

from coordinator.client.errors import proxy_of, without_proxy
from coordinator.job.path_options import PATH_OPTIONS
from coordinator.service.api.allowed_paths import check_allowed_paths
from coordinator.service.errors import ServiceError
from dfa_tasks import INSTALLED

pytestmark = pytest.mark.unit


def checked(spec: JobSpec, folder: Path) -> JobSpec:
    check_allowed_paths(spec, [folder / "code"], [folder / "data"])
    return spec


def test_a_task_runs_in_the_folder_of_its_file(tmp_path: Path) -> None:
    spec = checked(JobSpec(task="sub/mytask.py:make"), tmp_path)
    assert spec.task == f"{tmp_path}/code/sub/mytask.py:make"
    assert spec.working_dir == f"{tmp_path}/code/sub"
    assert checked(JobSpec(task="digits"), tmp_path).working_dir == ""


def test_another_folder_must_be_one_that_the_operator_opened(tmp_path: Path) -> None:
    there = JobSpec(task="mytask.py:make", working_dir=f"{tmp_path}/data/mine")
    assert checked(there, tmp_path).working_dir == f"{tmp_path}/data/mine"
    for folder in ("/etc", "../..", f"{tmp_path}/code/../.."):
        with pytest.raises(ServiceError, match="working_dir: .* is in no folder of --allow-code"):
            checked(JobSpec(task="mytask.py:make", working_dir=folder), tmp_path)


@pytest.mark.parametrize(
    ("address", "around"),
    [("127.0.0.1:7070", True), ("localhost:7070", True), ("[::1]:7070", True),
     ("ipv4:127.0.0.2:7070", True), ("dns:///localhost:7070", True), ("10.0.0.1:7070", False),
     ("service.example:7070", False)],
)  # fmt: skip
def test_a_service_on_this_machine_is_not_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, address: str, around: bool
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert bool(without_proxy(address)) is around
    assert ("asked through the proxy in http_proxy" in proxy_of(address)) is not around


def with_options(task: str, **options: str | float) -> JobSpec:
    spec = JobSpec(task=task)
    spec.options.update(options)
    return spec


def test_first_weights_and_options_that_name_files_lie_in_the_data_folders(tmp_path: Path) -> None:
    spec = with_options("causal-lm", model="gpt2", text=f"{tmp_path}/data/text", length=8)
    spec.init = "gpt2"
    found = checked(spec, tmp_path)
    assert dict(found.options) == {
        "model": f"{tmp_path}/data/gpt2",
        "text": f"{tmp_path}/data/text",
        "length": 8,
    }
    assert found.init == f"{tmp_path}/data/gpt2"
    for outside in ("/etc", "../secret", f"{tmp_path}/code"):
        for wrong, field in (
            (JobSpec(task="digits", init=outside), "init"),
            (with_options("causal-lm", model=outside), r"options\.model"),
            (with_options("nerf", scene=outside), r"options\.scene"),
        ):
            with pytest.raises(ServiceError, match=f"{field}: .* is in no folder of --data-root"):
                checked(wrong, tmp_path)


def test_options_that_name_files_are_options_of_their_tasks() -> None:
    for task, options in PATH_OPTIONS.items():
        assert set(options) <= set(inspect.signature(INSTALLED[task].make).parameters)
