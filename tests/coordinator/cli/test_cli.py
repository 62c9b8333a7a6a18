"""The command line, run as people run it: real processes, a real Ray for each run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch

from coordinator.cli.main import main
from dfa_tasks import INSTALLED

ERRORCAST = Path(sys.executable).parent / "errorcast"


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}


def errorcast(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ERRORCAST), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=110,
        env=environment(),
        check=False,
    )


@contextmanager
def started(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A run in a session of its own; whatever it leaves behind is killed with it."""
    run = subprocess.Popen(
        [str(ERRORCAST), *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        yield run
    finally:
        if run.poll() is None:
            run.kill()
            run.communicate()


def wait_for_line(metrics: Path, kind: str, run: subprocess.Popen[str]) -> None:
    """Wait until a run has written a line of this kind."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()
        if metrics.exists() and f'"kind": "{kind}"' in metrics.read_text(encoding="utf-8"):
            return
        time.sleep(0.05)  # a file tells nobody that it grew
    pytest.fail(f"no {kind} line in {metrics}")


def losses(run_dir: Path) -> dict[int, float]:
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    read = [json.loads(line) for line in lines]
    steps = [line["step"] for line in read if line["kind"] == "train"]
    assert len(steps) == len(set(steps)), "a step is logged twice"
    return {line["step"]: line["loss"] for line in read if line["kind"] == "train"}


def weights(run_dir: Path) -> dict[str, bytes]:
    loaded = safetensors.torch.load_file(run_dir / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in loaded.items()}


QUICK = ("--epochs", "2", "--set", "log_every=1", "--set", "options.width=64")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two epochs of digits on two blocks, never disturbed: the folder and what was printed."""
    folder = tmp_path_factory.mktemp("whole")
    done = errorcast("train", "digits", "--run-dir", "run", *QUICK, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


def test_a_run_shows_and_leaves_what_people_want(whole_run: tuple[Path, str]) -> None:
    run, shown = whole_run
    for text in (
        "layers and blocks",
        "layer 0 (Linear+Tanh)",
        "epoch 2/2",
        "accuracy",
        "coordinator",
    ):
        assert text in shown
    assert "Traceback" not in shown
    for name in ("job.yaml", "metrics.jsonl", "curves.png", "model.safetensors", "result.json"):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "tensorboard").glob("events.*"))
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["finished"]
    assert [row["process"] for row in result["processes"]] == ["block 1", "block 2", "coordinator"]
    for row in result["processes"]:
        assert row["busy"] + row["waiting"] == pytest.approx(1, abs=1e-9)
        assert row["bytes_sent"] > 0
    # each block sends every microbatch's activations once: steps x batch x width x 4 bytes
    evaluated = 360 * 3 * 64 * 4  # samples x evaluations are not counted as sent by a block
    assert result["processes"][0]["bytes_sent"] in (44 * 64 * 64 * 4, 44 * 64 * 64 * 4 + evaluated)


def test_evaluate_gives_the_runs_own_figures(whole_run: tuple[Path, str]) -> None:
    run, _ = whole_run
    done = errorcast("evaluate", "run", "--alignment", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert f"{result['metrics']['accuracy']:.4f}" in done.stdout
    assert f"{result['metrics']['loss']:.4f}" in done.stdout
    assert "cosine" in done.stdout


def test_export_writes_the_weights(whole_run: tuple[Path, str], tmp_path: Path) -> None:
    run, _ = whole_run
    done = errorcast("export", str(run), "-o", "out.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    exported = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert sorted(exported) == sorted(weights(run))
    assert exported["layers.0.0.weight"].shape == (64, 64)
    assert exported["head.weight"].shape == (10, 64)


def test_bp_and_shallow_run_the_reference(tmp_path: Path) -> None:
    done = errorcast("train", "digits", "--method", "bp", "--run-dir", "bp", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test loss" in done.stdout


@pytest.mark.timeout(240)
def test_ctrl_c_saves_and_resume_gives_the_same_bits(
    whole_run: tuple[Path, str], tmp_path: Path
) -> None:
    arguments = ("train", "digits", "--run-dir", "run", "--epochs", "200", *QUICK[2:])
    with started(*arguments, cwd=tmp_path) as run:
        wait_for_line(tmp_path / "run" / "metrics.jsonl", "train", run)
        run.send_signal(signal.SIGINT)
        shown, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert "continue with: errorcast train" in shown
    assert "Traceback" not in errors + shown
    stopped = max(losses(tmp_path / "run"))
    end = max(2 * 22, stopped)  # the whole run ends after two epochs of 22 steps
    epochs = -(-end // 22)
    done = errorcast(
        "train", "run", "--resume", "--epochs", str(epochs), "--blocks", "3", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert f"resumed from the checkpoint of step {stopped}" in done.stdout
    ours, undisturbed = losses(tmp_path / "run"), losses(whole_run[0])
    assert sorted(ours) == list(range(1, epochs * 22 + 1))
    assert {step: ours[step] for step in undisturbed} == undisturbed
    if epochs == 2:
        assert weights(tmp_path / "run") == weights(whole_run[0])


def children(pid: int) -> dict[int, str]:
    """All processes below a process, and their names."""
    found: dict[int, str] = {}
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        name, rest = (
            text[text.index("(") + 1 : text.rindex(")")],
            text[text.rindex(")") + 2 :].split(),
        )
        child = int(status.parent.name)
        found[child] = name
        parents.setdefault(int(rest[1]), []).append(child)
    below, todo = {}, [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            below[child] = found[child]
            todo.append(child)
    return below


@pytest.mark.parametrize("told", ["errorcast", "ray::TrainingWo"])
def test_a_notice_of_preemption_saves_first(tmp_path: Path, told: str) -> None:
    """SIGTERM, to the command or to the training actor alone: the machine is taken away."""
    arguments = ("train", "digits", "--run-dir", "run", "--epochs", "5000", *QUICK[2:])
    with started(*arguments, cwd=tmp_path) as run:
        wait_for_line(tmp_path / "run" / "metrics.jsonl", "train", run)
        names = {run.pid: "errorcast", **children(run.pid)}
        os.kill(next(p for p, name in names.items() if name.startswith(told)), signal.SIGTERM)
        shown, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    stopped = max(losses(tmp_path / "run"))
    assert f"stopped and saved at step {stopped}; continue with: errorcast train" in shown
    assert (tmp_path / "run" / "checkpoints" / f"step-{stopped:09d}" / "manifest.json").is_file()
    assert "Traceback" not in errors + shown


@pytest.mark.parametrize("victim", ["ray::BlockWorke", "ray::TrainingWo"])
def test_a_killed_process_ends_a_run_that_must_not_recover(tmp_path: Path, victim: str) -> None:
    arguments = (
        *("train", "digits", "--run-dir", "run", "--epochs", "5000", *QUICK[2:]),
        *("--set", "faults.recoveries=0"),
    )
    with started(*arguments, cwd=tmp_path) as run:
        wait_for_line(tmp_path / "run" / "metrics.jsonl", "evaluation", run)
        pid = next(pid for pid, name in children(run.pid).items() if name.startswith(victim))
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        shown, errors = run.communicate(timeout=30)
        assert time.monotonic() - killed < 10
    assert run.returncode == 1, errors
    assert errors.count("\n") == 1, errors
    assert "died" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors + shown
    done = errorcast(
        "train", "run", "--resume", "--set", "resources.timeout_s=60", "--epochs", "1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "resumed from the checkpoint" in done.stdout


def test_files_named_like_our_packages_do_not_get_in_the_way(tmp_path: Path) -> None:
    for name in ("workers", "coordinator", "tasks", "proto", "dfa_core", "errorcast"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong file')\n")
    done = errorcast("train", "digits", "--run-dir", "run", *QUICK, "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


OWN_TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from dfa_tasks import Splits, Task
from beside import WIDTH

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.calls = 0
    def forward(self, x):
        self.calls += 1
        return torch.tanh(self.inner(x))[:, : WIDTH - (CHANGES and self.calls > 40)]

CHANGES = False

def data():
    x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    return Splits(TensorDataset(x, (x.sum(1) > 0).long()), TensorDataset(x, (x.sum(1) > 0).long()))

def make_task(classes: int = 2):
    net = nn.Sequential(nn.Linear(4, WIDTH), nn.Tanh(), Layer(), nn.Linear(WIDTH, classes))
    return Task(model=net, loss=nn.functional.cross_entropy, data=data, defaults={"epochs": 20})

def changing():
    global CHANGES
    CHANGES = True
    return make_task()

def raising():
    raise ValueError("no luck today")

def exploding():
    task = make_task()
    return Task(model=task.model, loss=lambda out, y: task.loss(out, y) * float("inf"), data=data)

def no_task():
    return 5
"""


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WIDTH = 16\n")
    (tmp_path / "mytask.py").write_text(OWN_TASK)
    return tmp_path


def test_a_task_of_ones_own(own_task: Path) -> None:
    arguments = ("train", "mytask.py:make_task", "--run-dir", "run", "--set", "optimizer.lr=0.01")
    done = errorcast(*arguments, cwd=own_task)
    assert done.returncode == 0, done.stderr
    result = json.loads((own_task / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"]["accuracy"] > 0.95
    evaluated = errorcast("evaluate", "run", cwd=own_task)
    assert f"{result['metrics']['accuracy']:.4f}" in evaluated.stdout


def test_a_layer_that_changes_its_shape_ends_the_run_with_exit_code_2(own_task: Path) -> None:
    done = errorcast("train", "mytask.py:changing", "--run-dir", "run", cwd=own_task)
    assert done.returncode == 2
    assert "returned samples of (15,), but of (16,) before" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_infinite_loss_names_step_and_checkpoint(own_task: Path) -> None:
    done = errorcast(
        "train", "mytask.py:exploding", "--run-dir", "run", "--method", "shallow", cwd=own_task
    )
    assert done.returncode == 1
    assert "the loss is inf at step 0, microbatch 0" in done.stderr
    done = errorcast(
        "train",
        "mytask.py:make_task",
        "--run-dir",
        "nan",
        "--set",
        "optimizer={name: sgd, lr: 1e38}",
        cwd=own_task,
    )
    assert done.returncode == 1
    assert "the loss is" in done.stderr
    assert "first seen in the head (Linear) or the loss" in done.stderr
    assert "the last good checkpoint is of step 0: go on with errorcast train" in done.stderr
    assert done.stderr.count("\n") == 1


BAD = {
    "unknown task": (["digit"], "task: unknown 'digit'; did you mean digits"),
    "no task": ([], "which task?"),
    "no blocks": (
        ["digits", "--blocks", "0"],
        "blocks: 0 is not between 1 and the model's 3 layer(s)",
    ),
    "too many blocks": (
        ["digits", "--blocks", "4"],
        "blocks: 4 is not between 1 and the model's 3",
    ),
    "negative blocks": (
        ["digits", "--blocks", "-1"],
        "blocks: '-1' is not a whole number from 0 up",
    ),
    "blocks in words": (["digits", "--blocks", "two"], "blocks: 'two' is not a finite number"),
    "batch not divided": (
        ["digits", "--batch-size", "50"],
        "microbatches: 4 does not divide batch_size 50; 5 does",
    ),
    "no microbatches": (["digits", "--microbatches", "0"], "microbatches: 0 must be at least 1"),
    "batch too large": (
        ["digits", "--batch-size", "4096"],
        "batch_size: 4096 is more than the 1437",
    ),
    "unknown optimizer": (
        ["digits", "--set", "optimizer.name=adm"],
        "optimizer.name: unknown 'adm'; did you mean",
    ),
    "unknown option": (
        ["digits", "--set", "optimizer.options.momentun=0.9"],
        "Adam has no 'momentun'",
    ),
    "unknown field": (
        ["digits", "--set", "optimiser.lr=1"],
        "optimiser: unknown field; did you mean optimizer",
    ),
    "unknown task option": (
        ["digits", "--set", "options.widht=3"],
        "has no 'widht'; did you mean width?",
    ),
    "bad width": (
        ["digits", "--set", "options.width=0"],
        "options.width: 0 is not a whole number above 0",
    ),
    "unknown method": (["digits", "--method", "backprop"], "method: unknown 'backprop'"),
    "bad set": (["digits", "--set", "blocks"], "--set blocks: must look like"),
    "malformed yaml": (["bad.yaml"], "bad.yaml: is not valid YAML"),
    "missing yaml": (["none.yaml"], "none.yaml: cannot be read"),
    "yaml list": (["list.yaml"], "list.yaml: must hold fields"),
    "unwritable": (["digits", "--run-dir", "file/run"], "cannot be written"),
    "a task file that raises": (["mytask.py:raising"], "ValueError: no luck today"),
    "no such function": (
        ["mytask.py:make_tusk"],
        "no function 'make_tusk'; did you mean make_task",
    ),
    "no such file": (["other.py:make_task"], "task: there is no file other.py"),
    "not a task": (["mytask.py:no_task"], "returned int, not a dfa_tasks.Task"),
    "a syntax error": (["broken.py:make_task"], "broken.py failed: SyntaxError"),
    "truncated data": (["fashion-mnist", "--data-dir", "truncated"], "cannot be read"),
    "altered data": (["fashion-mnist", "--data-dir", "altered"], "wrong checksum"),
    "no data there": (
        ["mnist", "--data-dir", "file"],
        "has no mnist; put train-images-idx3-ubyte.gz",
    ),
    "no run to resume": (["digits", "--resume", "--run-dir", "new"], "is no run folder"),
    "no cluster": (["digits", "--ray-address", "127.0.0.1:1"], "no Ray cluster could be joined"),
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "digits"], "No such command 'trian'. Did you mean 'train'?"),
        (["train", "digits", "--block", "2"], "No such option: --block"),
        (["train", "digits", "--blocks"], "Option '--blocks' requires an argument"),
        (["evaluate"], "Missing argument"),
    ],
)
def test_a_misspelt_command_line_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["errorcast", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    shown, errors = capfd.readouterr()
    assert ended.value.code == 2
    assert errors.startswith(f"errorcast: {message}"), errors
    assert (errors.count("\n"), shown) == (1, "")


def test_without_a_verb_the_help_is_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["errorcast"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert "train" in capfd.readouterr().out


NEEDS_RAY = ("batch too large", "truncated data", "altered data", "no cluster")


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str,
    own_task: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments, message = BAD[case]
    (own_task / "bad.yaml").write_text("task: [digits\n")
    (own_task / "list.yaml").write_text("- digits\n")
    (own_task / "broken.py").write_text("def make_task(:\n")
    (own_task / "file").write_text("")
    if "data" in case and "no data" not in case:
        damaged_data(request.getfixturevalue("real_data"), own_task)
    if case in NEEDS_RAY:
        done = errorcast("train", *arguments, cwd=own_task)
        code, shown, errors = done.returncode, done.stdout, done.stderr
    else:  # the same main(), without two seconds of imports each
        monkeypatch.chdir(own_task)
        monkeypatch.setattr(sys, "argv", ["errorcast", "train", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code, (shown, errors) = ended.value.code, capfd.readouterr()
    assert code == 2, shown + errors
    assert message in errors
    assert errors.count("\n") == 1, errors
    assert "Traceback" not in shown
    assert not list(own_task.glob("runs/*/checkpoints/*"))


def damaged_data(real_data: Path, folder: Path) -> None:
    """A copy of Fashion-MNIST cut short, and one with a pixel changed."""
    import gzip

    for kind in ("truncated", "altered"):
        there = folder / kind / "fashion-mnist"
        there.mkdir(parents=True)
        for file in (real_data / "fashion-mnist").glob("*.gz"):
            (there / file.name).symlink_to(file)
        labels = there / "t10k-labels-idx1-ubyte.gz"
        data = labels.resolve().read_bytes()
        labels.unlink()
        if kind == "truncated":
            labels.write_bytes(data[: len(data) // 2])
        else:
            content = bytearray(gzip.decompress(data))
            content[100] ^= 1
            labels.write_bytes(gzip.compress(bytes(content)))


def test_a_run_folder_of_another_run_or_job_is_left_alone(whole_run: tuple[Path, str]) -> None:
    run, _ = whole_run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = errorcast("train", "digits", "--run-dir", "run", cwd=run.parent)
    assert (done.returncode, "holds a run already" in done.stderr) == (2, True)
    done = errorcast("train", "run", "--resume", "--seed", "5", cwd=run.parent)
    assert (done.returncode, "its seed is 0, not 5" in done.stderr) == (2, True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_debug_shows_the_stack_trace(tmp_path: Path) -> None:
    done = errorcast("--debug", "train", "digit", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_tasks_are_listed_one_line_each(tmp_path: Path) -> None:
    done = errorcast("tasks", cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(INSTALLED)
    assert "fashion-mnist-residual" in done.stdout


def test_a_yaml_and_what_is_set_over_it(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "task: digits\nmethod: shallow\nepochs: 1\noptions: {width: 32}\n"
        "optimizer: {name: sgd, lr: 0.5}\n"
    )
    done = errorcast(
        "train",
        "job.yaml",
        "--set",
        "optimizer.lr=0.0005",
        "--seed",
        "3",
        "--run-dir",
        "r",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    resolved = (tmp_path / "r" / "job.yaml").read_text(encoding="utf-8")
    for line in ("lr: 0.0005", "name: sgd", "seed: 3", "method: shallow", "width: 32"):
        assert line in resolved
