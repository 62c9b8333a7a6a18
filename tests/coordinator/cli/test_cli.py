"""The command line: what it prints, what it leaves, and its exit codes."""

import gzip
import json
from pathlib import Path

import pytest
import safetensors.torch
from support.command_line import run_errorcast
from support.runs import weights

from coordinator.job.spec import to_settings
from coordinator.runs.run_folder import RunFolder
from dfa_tasks import INSTALLED

QUICK = ("--epochs", "2", "--set", "log_every=1", "--set", "options.width=64")


@pytest.fixture(scope="module")
def whole_run(a_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two epochs of digits on two blocks, never disturbed: the folder and what was printed."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = ("train", "digits", "--run-dir", "run", "--profile", "2", *QUICK)
    done = run_errorcast(*arguments, cwd=folder)
    assert done.code == 0, done.err
    return folder / "run", done.out


def test_a_run_shows_and_leaves_what_people_want(whole_run: tuple[Path, str]) -> None:
    run, shown = whole_run
    for text in (
        "layers and blocks",
        "layer 0 (Linear+Tanh)",
        "epoch 2/2",
        "accuracy",
        "coordinator",
        "GFLOP/s",
        "open it at ui.perfetto.dev",
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


def test_a_profile_holds_the_steps_of_every_worker(whole_run: tuple[Path, str]) -> None:
    run, _ = whole_run
    trace = json.loads(gzip.decompress((run / "profile.json.gz").read_bytes()))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in trace if e["name"] == "process_name"}
    assert list(names.values()) == ["block 1", "block 2"]
    for process in names:
        own = [e for e in trace if e["pid"] == process and e["ph"] == "X"]
        steps = {e["name"].split(", step ")[1] for e in own if ", step " in e["name"]}
        assert len(steps) == 2
        assert any(e["name"] == "aten::addmm" for e in own)
    times = [e["ts"] for e in trace if e["ph"] == "X"]
    assert min(times) == 0
    assert max(times) < 60e6


def test_evaluate_gives_the_runs_own_figures(whole_run: tuple[Path, str]) -> None:
    run, _ = whole_run
    done = run_errorcast("evaluate", "run", "--alignment", cwd=run.parent)
    assert done.code == 0, done.err
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert f"{result['metrics']['accuracy']:.4f}" in done.out
    assert f"{result['metrics']['loss']:.4f}" in done.out
    assert "cosine" in done.out


def test_export_writes_the_weights(whole_run: tuple[Path, str], tmp_path: Path) -> None:
    run, _ = whole_run
    done = run_errorcast("export", str(run), "-o", "out.safetensors", cwd=tmp_path)
    assert done.code == 0, done.err
    exported = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert sorted(exported) == sorted(weights(run))
    assert exported["layers.0.0.weight"].shape == (64, 64)
    assert exported["head.weight"].shape == (10, 64)


def test_a_number_of_workers_chooses_their_shape(a_ray: None, tmp_path: Path) -> None:
    done = run_errorcast(
        "train", "digits", "--workers", "2", "--run-dir", "two", "--epochs", "1", cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert "2 worker(s): blocks " in done.out
    chosen = to_settings(RunFolder(tmp_path / "two").spec())
    workers = chosen["blocks"] * chosen["replicas"]
    assert workers + (chosen["resources"]["head"] == "coordinator") == 2


def test_workers_and_blocks_are_not_given_both(tmp_path: Path) -> None:
    done = run_errorcast("train", "digits", "--workers", "2", "--blocks", "2", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "workers: 2 chooses blocks too; give one of both" in done.err


@pytest.mark.parametrize("method", ["bp", "shallow"])
def test_other_methods_train_on_blocks_too(a_ray: None, tmp_path: Path, method: str) -> None:
    done = run_errorcast("train", "digits", "--method", method, *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "test loss" in done.out


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


def test_a_task_of_ones_own(a_ray: None, own_task: Path) -> None:
    arguments = ("train", "mytask.py:make_task", "--run-dir", "run", "--set", "optimizer.lr=0.01")
    done = run_errorcast(*arguments, cwd=own_task)
    assert done.code == 0, done.err
    result = json.loads((own_task / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"]["accuracy"] > 0.95
    evaluated = run_errorcast("evaluate", "run", cwd=own_task)
    assert f"{result['metrics']['accuracy']:.4f}" in evaluated.out


def test_a_layer_that_changes_its_shape_ends_the_run_with_exit_code_2(
    a_ray: None, own_task: Path
) -> None:
    done = run_errorcast("train", "mytask.py:changing", "--run-dir", "run", cwd=own_task)
    assert done.code == 2
    assert "returned samples of (15,), but of (16,) before" in done.err
    assert done.err.count("\n") == 1


def test_an_infinite_loss_names_step_and_checkpoint(a_ray: None, own_task: Path) -> None:
    done = run_errorcast(
        "train", "mytask.py:exploding", "--run-dir", "run", "--method", "shallow", cwd=own_task
    )
    assert done.code == 1
    assert "the loss is inf at step 0, microbatch 0" in done.err
    done = run_errorcast(
        "train",
        "mytask.py:make_task",
        "--run-dir",
        "nan",
        "--set",
        "optimizer={name: sgd, lr: 1e38}",
        cwd=own_task,
    )
    assert done.code == 1
    assert "the loss is" in done.err
    assert "first seen in the head (Linear) or the loss" in done.err
    assert "the last good checkpoint is of step 0: continue with errorcast train" in done.err
    assert done.err.count("\n") == 1


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
    "unknown tracker": (
        ["digits", "--set", "trackers=[wandb,mlfow]"],
        "trackers: unknown 'mlfow'; did you mean mlflow?",
    ),
    "a tracker alone": (
        ["digits", "--set", "trackers=wandb"],
        "trackers: 'wandb' must be a list, such as [wandb]",
    ),
    "unknown task option": (
        ["digits", "--set", "options.widht=3"],
        "has no 'widht'; did you mean width?",
    ),
    "bad width": (
        ["digits", "--set", "options.width=0"],
        "options.width: 0 is not a whole number above 0",
    ),
    "code of a service": (
        ["digits", "--set", "code=abc"],
        "code: is for jobs that are submitted to a service; remove it",
    ),
    "unknown method": (["digits", "--method", "backprop"], "method: unknown 'backprop'"),
    "bad set": (["digits", "--set", "blocks"], "--set blocks: must look like"),
    "malformed yaml": (["bad.yaml"], "bad.yaml: is not valid YAML"),
    "missing yaml": (["none.yaml"], "none.yaml: cannot be read"),
    "yaml list": (["list.yaml"], "list.yaml: must hold fields"),
    "a task file that raises": (["mytask.py:raising"], "ValueError: no luck today"),
    "no such function": (
        ["mytask.py:make_tusk"],
        "no function 'make_tusk'; did you mean make_task",
    ),
    "no such file": (["other.py:make_task"], "task: there is no file other.py"),
    "not a task": (["mytask.py:no_task"], "returned int, not a dfa_tasks.Task"),
    "a syntax error": (["broken.py:make_task"], "broken.py failed: SyntaxError"),
    "no data there": (
        ["mnist", "--data-dir", "file"],
        "has no mnist; put train-images-idx3-ubyte.gz",
    ),
    "no run to resume": (["digits", "--resume", "--run-dir", "new"], "is no run folder"),
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
    arguments: list[str], message: str
) -> None:
    done = run_errorcast(*arguments)
    assert done.code == 2
    assert done.err.startswith(f"errorcast: {message}"), done.err
    assert (done.err.count("\n"), done.out) == (1, "")


def test_without_a_verb_the_help_is_shown() -> None:
    done = run_errorcast()
    assert done.code == 0
    assert "train" in done.out


FAILING_CALLBACK = """
from dataclasses import replace
from dfa_tasks import Callback, make_task as installed

class Guard(Callback):
    def on_evaluation(self, step, scores):
        raise ValueError("it is odd")

def make_task():
    return replace(installed("digits", {"width": 16}), callbacks=[Guard()])
"""


def test_a_callback_that_fails_is_one_line_and_exit_code_1(a_ray: None, tmp_path: Path) -> None:
    (tmp_path / "mytask.py").write_text(FAILING_CALLBACK)
    done = run_errorcast("train", "mytask.py:make_task", "--run-dir", "run", cwd=tmp_path)
    assert done.code == 1
    line = (
        f"errorcast: callback Guard: on_evaluation of step 22 raised ValueError: it is odd; the "
        f"last good checkpoint is of step 22: continue with errorcast train {tmp_path / 'run'} "
        f"--resume\n"
    )
    assert done.err == line


FOUND_BY_THE_TRAINING_ACTOR = {
    "unwritable": (["digits", "--run-dir", "file/run"], "cannot be written"),
    "batch too large": (
        ["digits", "--batch-size", "4096"],
        "batch_size: 4096 is more than the 1437",
    ),
    "truncated data": (["fashion-mnist", "--data-dir", "truncated"], "cannot be read"),
    "altered data": (["fashion-mnist", "--data-dir", "altered"], "wrong checksum"),
}


def refused(arguments: list[str], message: str, folder: Path) -> None:
    done = run_errorcast("train", *arguments, cwd=folder)
    assert done.code == 2, done
    assert message in done.err
    assert done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.out
    assert not list(folder.glob("runs/*/checkpoints/*"))


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case: str, own_task: Path) -> None:
    (own_task / "bad.yaml").write_text("task: [digits\n")
    (own_task / "list.yaml").write_text("- digits\n")
    (own_task / "broken.py").write_text("def make_task(:\n")
    (own_task / "file").write_text("")
    refused(*BAD[case], own_task)


@pytest.mark.parametrize("case", FOUND_BY_THE_TRAINING_ACTOR)
def test_bad_data_is_one_line_and_exit_code_2(
    a_ray: None, case: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "file").write_text("")
    if "data" in case:
        damaged_data(request.getfixturevalue("real_data"), tmp_path)
    refused(*FOUND_BY_THE_TRAINING_ACTOR[case], tmp_path)


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
    done = run_errorcast("train", "digits", "--run-dir", "run", cwd=run.parent)
    assert (done.code, "holds a run already" in done.err) == (2, True)
    done = run_errorcast("train", "run", "--resume", "--seed", "5", cwd=run.parent)
    assert (done.code, "its seed is 0, not 5" in done.err) == (2, True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_debug_shows_the_stack_trace(tmp_path: Path) -> None:
    done = run_errorcast("--debug", "train", "digit", cwd=tmp_path)
    assert done.code == 2
    assert "Traceback" in done.err


def test_tasks_are_listed_one_line_each(tmp_path: Path) -> None:
    done = run_errorcast("tasks", cwd=tmp_path)
    assert done.code == 0
    assert len(done.out.splitlines()) == len(INSTALLED)
    assert "fashion-mnist-residual" in done.out


def test_a_yaml_and_what_is_set_over_it(a_ray: None, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "task: digits\nmethod: shallow\nepochs: 1\noptions: {width: 32}\n"
        "optimizer: {name: sgd, lr: 0.5}\n"
    )
    done = run_errorcast(
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
    assert done.code == 0, done.err
    resolved = (tmp_path / "r" / "job.yaml").read_text(encoding="utf-8")
    for line in ("lr: 0.0005", "name: sgd", "seed: 3", "method: shallow", "width: 32"):
        assert line in resolved
