"""`errorcast sweep`: real trials on Ray Tune, ended and killed on the way, and what they leave."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.command_line import run_errorcast, started_errorcast
from support.in_process import train_here

from coordinator.experiments.sweep.record import Sweep, SweepFolder
from coordinator.job.spec import read_yaml
from coordinator.runs.run_folder import RunFolder

RANGES = ("--over", "optimizer.lr=1e-4..1e-1:log", "--over", "feedback.scale=0.3,1,3")
# two trials at once on the Ray of the tests, one on a Ray of its own
SMALL = (
    *("--method", "dfa,bp", "--trials", "3", "--epochs", "4", "--set", "options.width=16"),
    *("--set", "resources.cpus=12", "--set", "resources.threads=1"),
)


@pytest.fixture(scope="module")
def whole(a_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nothing disturbed."""
    folder = tmp_path_factory.mktemp("sweep")
    done = run_errorcast("sweep", "digits", *RANGES, *SMALL, "--dir", "whole", cwd=folder)
    assert done.code == 0, done.err
    (folder / "shown").write_text(done.out, encoding="utf-8")
    return folder / "whole"


def read(folder: Path) -> Sweep:
    return SweepFolder(folder).read()


def test_it_shows_and_leaves_what_people_want(whole: Path) -> None:
    sweep, shown = read(whole), (whole.parent / "shown").read_text(encoding="utf-8")
    assert all(trial.state in ("finished", "stopped") for trial in sweep.trials)
    assert "stopped" in {trial.state for trial in sweep.trials}
    for trial in sweep.trials:
        row = next(line for line in shown.splitlines() if line.startswith(trial.name)).split()
        assert row[1:3] == [f"{trial.score:.4f}", str(len(trial.scores))]
        assert trial.state in row[3]
        assert len(trial.scores) == (4 if trial.state == "finished" else 1)
    assert "the trials of a method were compared after epoch 1, 3" in shown
    assert (whole / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert {path.name for path in whole.iterdir()} == {
        *("sweep.json", "sweep.png", "best-dfa.yaml", "best-bp.yaml", "trials", "lock")
    }
    found = json.loads((whole / "sweep.json").read_text(encoding="utf-8"))
    for method, name in found["best"].items():
        best = sweep.trial(name)
        assert best.score == max(t.score or 0 for t in sweep.of_method(method) if t.chosen)
        assert best.test["accuracy"] == best.score  # digits has no validation data


@pytest.mark.timeout(180)
def test_the_best_settings_give_their_score_again(whole: Path, tmp_path: Path) -> None:
    for method in ("dfa", "bp"):
        best = read(whole).best(method)
        assert best is not None
        settings = read_yaml(whole / f"best-{method}.yaml")
        task = settings.pop("task")
        run = train_here(task, tmp_path / method, **settings)
        assert run.metrics == best.test
    best_job = ("train", str(whole / "best-dfa.yaml"), "--set", "resources.cpus=1")
    done = run_errorcast(*best_job, "--run-dir", "again", cwd=tmp_path)
    assert done.code == 0, done.err
    summary, best = RunFolder(tmp_path / "again").summary(), read(whole).best("dfa")
    assert best is not None
    assert summary is not None
    assert summary["metrics"] == best.test  # on two blocks
    assert f"accuracy {best.score:.4f}" in done.out


@pytest.mark.timeout(240)
def test_ended_and_killed_it_goes_on_to_the_same_table(whole: Path, tmp_path: Path) -> None:
    arguments = ("sweep", "digits", *RANGES, *SMALL, "--dir", "sweep")
    with started_errorcast(*arguments, cwd=tmp_path) as run:
        ended = _until_a_trial_ends(run)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert f"continue with:\n  errorcast sweep {tmp_path / 'sweep'} --resume" in errors
    assert "Traceback" not in errors
    refused = run_errorcast(*arguments, cwd=tmp_path)
    assert refused.code == 2
    assert "holds a sweep already; continue it with errorcast sweep" in refused.err
    untuned = run_errorcast("compare", "digits", "--tuned", "sweep", cwd=tmp_path)
    assert "have not ended; continue it" in untuned.err
    with started_errorcast("sweep", "sweep", "--resume", cwd=tmp_path) as run:
        again = _until_a_trial_ends(run)
        _kill_all(run)
    assert ended.split(":")[0] != again.split(":")[0]  # what has ended is not run again
    assert read(tmp_path / "sweep").waiting()
    done = run_errorcast("sweep", "sweep", "--resume", cwd=tmp_path)
    assert done.code == 0, done.err
    shown = (whole.parent / "shown").read_text(encoding="utf-8")
    assert done.out == shown.replace(str(whole), str(tmp_path / "sweep"))
    for name in ("sweep.json", "best-dfa.yaml", "best-bp.yaml"):
        assert (tmp_path / "sweep" / name).read_bytes() == (whole / name).read_bytes()


def _until_a_trial_ends(run: "subprocess.Popen[str]") -> str:
    """Return the line about the first trial that ends."""
    assert run.stderr is not None
    lines = []
    for line in run.stderr:
        lines.append(line)
        if " epoch(s), accuracy " in line:
            return line
    raise AssertionError("".join(lines))


def _kill_all(run: "subprocess.Popen[str]") -> None:
    """Kill a sweep and all processes that it has started, as a machine that goes down does."""
    processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.communicate()
    psutil.wait_procs(processes[1:], timeout=30)


def test_a_sweep_that_has_ended_gets_more_trials(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "longer")
    again = run_errorcast("sweep", "longer", "--resume", cwd=tmp_path)
    assert again.code == 0, again.err
    assert read(tmp_path / "longer") == read(whole)
    done = run_errorcast(
        *("sweep", "longer", "--resume", "--trials", "4", "--format", "json"), cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert done.out == (tmp_path / "longer" / "sweep.json").read_text(encoding="utf-8")
    longer = read(tmp_path / "longer")
    assert len(longer.trials) == 8
    for trial in read(whole).trials:
        assert longer.trial(trial.name) == trial


def test_methods_are_compared_with_their_best_settings(whole: Path, tmp_path: Path) -> None:
    done = run_errorcast(
        *("compare", "digits", "--tuned", str(whole), "--seeds", "1", "--blocks", "1"),
        *("--set", "resources.cpus=1", "--out", "both", "--format", "json"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert list(found["tuned"]) == ["dfa", "bp"]
    for row in found["methods"]:
        best = read(whole).best(row["method"])
        assert best is not None
        assert row["seeds"][0]["test"] == best.test
    for arguments, why in (
        (("--set", "optimizer.lr=1"), "--set optimizer.lr: the sweep of --tuned chooses it"),
        (("--methods", "dfa,shallow"), "has no best settings for shallow"),
    ):
        refused = run_errorcast("compare", "digits", "--tuned", str(whole), *arguments)
        assert (refused.code, refused.out) == (2, "")
        assert why in refused.err
    other = run_errorcast("compare", "digits-residual", "--tuned", str(whole))
    assert "is a sweep of digits, not of digits-residual" in other.err
    nowhere = run_errorcast("compare", "digits", "--tuned", str(tmp_path))
    assert "holds no sweep" in nowhere.err


@pytest.mark.timeout(180)
def test_trials_that_fail_are_shown_and_the_others_go_on(a_ray: None, tmp_path: Path) -> None:
    too_fast = ("--set", "optimizer.name=sgd", "--set", "options.width=16", "--epochs", "2")
    few = ("--method", "bp", "--trials", "2", "--set", "resources.cpus=12", *too_fast)
    some = run_errorcast(
        *("sweep", "digits", "--over", "optimizer.lr=1e-2,1e37", *few, "--dir", "some"),
        cwd=tmp_path,
    )
    assert some.code == 0, some.err
    states = {trial.state: trial for trial in read(tmp_path / "some").trials}
    assert set(states) == {"finished", "failed"}
    assert f"{states['failed'].name}: " in some.out
    assert "best bp: " in some.out
    none = run_errorcast(
        *("sweep", "digits", "--over", "optimizer.lr=1e36,1e37", *few, "--dir", "none"),
        cwd=tmp_path,
    )
    assert (none.code, none.out) == (1, "")
    assert none.err.splitlines()[-1].startswith("errorcast: all 2 trials failed; bp-")
    assert "Traceback" not in none.err


@pytest.mark.blocks
def test_missing_packages_are_named_before_anything_starts(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "sys.argv = ['errorcast', 'sweep', 'digits', '--over', 'optimizer.lr=1..2']\n"
        "from coordinator.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'errorcast[sweep]'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_twenty_trials_of_each_method_killed_at_half(tmp_path: Path) -> None:
    arguments = (
        *("sweep", "digits", "--over", "optimizer.lr=1e-4..1e-2:log", *RANGES[2:]),
        *("--method", "dfa,bp", "--trials", "20"),
    )
    with started_errorcast(*arguments, "--dir", "whole", cwd=tmp_path) as run:
        shown, errors = run.communicate(timeout=900)
    assert run.returncode == 0, errors
    stopped = [trial for trial in read(tmp_path / "whole").trials if trial.state == "stopped"]
    assert len(stopped) > 10
    with started_errorcast(*arguments, "--dir", "killed", cwd=tmp_path) as run:
        for _ in range(20):
            _until_a_trial_ends(run)
        _kill_all(run)
    with started_errorcast("sweep", "killed", "--resume", cwd=tmp_path) as run:
        again, errors = run.communicate(timeout=900)
    assert run.returncode == 0, errors
    assert again == shown.replace(str(tmp_path / "whole"), str(tmp_path / "killed"))


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_trials_whose_processes_are_killed_are_trained_again(whole: Path, tmp_path: Path) -> None:
    arguments = ("sweep", "digits", *RANGES, *SMALL[:-4], "--set", "resources.threads=1")
    with started_errorcast(*arguments, "--dir", "sweep", cwd=tmp_path) as run:
        for _ in range(2):
            _until_a_trial_ends(run)
            for process in psutil.Process(run.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if "::ImplicitFunc" in " ".join(process.cmdline()):  # Tune's own name
                        process.kill()
        _, errors = run.communicate(timeout=600)
    assert run.returncode == 0, errors
    assert "Traceback" not in errors
    assert read(tmp_path / "sweep").trials == read(whole).trials


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_trials_on_blocks_have_the_same_scores(whole: Path, tmp_path: Path) -> None:
    arguments = ("sweep", "digits", *RANGES, *SMALL[:-4], "--blocks", "2", "--dir", "sweep")
    with started_errorcast(*arguments, cwd=tmp_path) as run:
        _, errors = run.communicate(timeout=600)
    assert run.returncode == 0, errors
    assert read(tmp_path / "sweep").trials == read(whole).trials
