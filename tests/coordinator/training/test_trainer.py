"""The story of a run in one process: what is saved, decided and loaded, and how often."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.tasks import noisy_task

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.loop import OnStep
from coordinator.engine.single_process import SingleProcess
from coordinator.engine.worker_group import PipelineBroken
from coordinator.job.resolve import resolve
from coordinator.runs.checkpoint import Checkpoint
from coordinator.runs.origin import Origin
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import (
    CheckpointWritten,
    Event,
    Progress,
    RateCut,
    Recovered,
    Resumed,
    Warned,
)
from coordinator.training.trainer import Trainer
from dfa_core import JobError, Reference, TrainingFailed
from dfa_tasks import Callback
from dfa_tasks.source import as_source

EPOCH = 5  # steps
PLATEAU = {"lr": 0.01, "schedule": "plateau", "patience": 2}


class Breaking(SingleProcess):
    """An engine whose workers die before one step, once; it counts what it is asked for."""

    def __init__(self, reference: Reference, prefetcher: Prefetcher, at: int | None) -> None:
        super().__init__(reference, prefetcher)
        self.at, self.started, self.cuts = at, 0, list[tuple[int, ...]]()
        self.before: Callable[[], None] = lambda: None

    def start(self, checkpoint: Checkpoint | None) -> int:
        self.started += 1
        return super().start(checkpoint)

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        self.cuts.append(cuts)
        super().set_cuts(cuts)

    def train(self, first: int, last: int, on_step: OnStep) -> list[tuple[int, str]]:
        if self.at is not None and first <= self.at < last:
            super().train(first, self.at, on_step)
            self.at = None
            self.before()
            raise PipelineBroken("the worker of block 1 died", [1])
        return super().train(first, last, on_step)


class Story:
    """One start of a run in a folder, on an engine in this process."""

    def __init__(
        self,
        path: Path,
        epochs: int = 20,
        at: int | None = None,
        callbacks: Sequence[Callback] = (),
        **job: Any,
    ) -> None:
        settings = {"method": "bp", "batch_size": 16, "epochs": epochs, "seed": 5, **job}
        self.job = resolve(replace(noisy_task(), callbacks=callbacks), settings)
        self.splits = self.job.splits()
        self.source = as_source(self.splits.train, 16, 5)
        self.rule = self.job.rule(self.source.steps_per_epoch)
        self.reference = Reference(self.job.model, self.job.task.loss, self.rule)
        self.engine = Breaking(self.reference, Prefetcher(self.source, 16, 1), at)
        self.folder, self.events = RunFolder(path), list[Event | Progress]()
        with self.folder.opened(self.job.spec, "either"):
            self.folder.begin_run(Origin({}), {})  # its story alone uses the folder

    def run(self) -> dict[str, Any]:
        trainer = Trainer(
            self.job, self.engine, self.splits, self.rule, EPOCH, self.folder, self.events.append
        )
        try:
            return trainer.run()
        finally:
            self.engine._prefetcher.close()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def bits(self) -> dict[tuple[str, str], bytes]:
        states = {part.name: part.state()[0] for part in self.reference.trained_modules()}
        return {
            (p, n): t.numpy().tobytes() for p, state in states.items() for n, t in state.items()
        }


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def step_folder(path: Path, step: int) -> Path:
    return path / "checkpoints" / f"step-{step:09d}"


def test_a_plateau_cut_writes_no_extra_checkpoint_and_rebuilds_no_group(tmp_path: Path) -> None:
    story = Story(tmp_path, optimizer=PLATEAU, checkpoint={"every_steps": 8})
    story.run()
    cuts = [event.step for event in story.of(RateCut)]
    assert len(cuts) >= 3
    assert story.engine.cuts == [tuple(cuts[: n + 1]) for n in range(len(cuts))]
    assert story.engine.started == 1
    written = [event.step for event in story.of(CheckpointWritten)]
    assert written == [*range(0, 100, 8), 100]


@pytest.mark.trains
@pytest.mark.parametrize("every", [EPOCH, 8])
@pytest.mark.parametrize("metric", ["", "loss"])
def test_faults_and_resumes_at_any_step_change_no_decision(
    tmp_path: Path, every: int, metric: str
) -> None:
    job = {
        "optimizer": PLATEAU,
        "checkpoint": {"every_steps": every},
        "stopping": {"metric": metric},
    }
    whole = Story(tmp_path / "whole", **job)
    whole.run()
    cuts = [event.step for event in whole.of(RateCut)]
    for at in (cuts[0] - 1, cuts[0], cuts[1] + 2):
        broken = Story(tmp_path / f"broken-{at}", at=at, **job)
        broken.run()
        assert len(broken.of(Recovered)) == 1
        assert [event.step for event in broken.of(RateCut)] == cuts
        assert broken.bits() == whole.bits()
        assert broken.folder.curve()[-1] == whole.folder.curve()[-1]
    for epochs in (cuts[0] // EPOCH, cuts[0] // EPOCH + 1):
        path = tmp_path / f"resumed-{epochs}"
        Story(path, epochs=epochs, **job).run()
        resumed = Story(path, **job)
        resumed.run()
        assert [event.step for event in resumed.of(Resumed)] == [epochs * EPOCH]
        assert resumed.bits() == whole.bits()


def test_a_damaged_file_is_named_and_the_checkpoint_before_it_loaded(tmp_path: Path) -> None:
    whole = Story(tmp_path / "whole")
    whole.run()

    broken = Story(tmp_path / "broken", at=47)
    broken.engine.before = lambda: flip(step_folder(tmp_path / "broken", 45) / "head.safetensors")
    summary = broken.run()
    assert summary["faults"]["steps_repeated"] == 7
    (warning,) = broken.of(Warned)
    assert "step-000000045/head.safetensors: is not what was written" in warning.message
    assert broken.bits() == whole.bits()

    folder = step_folder(tmp_path / "broken", 100)
    flip(folder / "layer-0000.safetensors")
    again = Story(tmp_path / "broken")
    again.run()
    assert [event.step for event in again.of(Resumed)] == [95]
    assert "step-000000100/layer-0000.safetensors" in again.of(Warned)[0].message
    assert again.bits() == whole.bits()

    for file in (tmp_path / "broken" / "checkpoints").glob("step-*/head.safetensors"):
        flip(file)
    with pytest.raises(
        JobError, match=r"head.safetensors: .*, and no checkpoint before it is intact"
    ):
        Story(tmp_path / "broken").run()


def test_a_recovery_that_finds_all_checkpoints_damaged_is_a_fault_of_the_run(
    tmp_path: Path,
) -> None:
    story = Story(tmp_path, at=47)

    def damage() -> None:
        for file in (tmp_path / "checkpoints").glob("step-*/head.safetensors"):
            flip(file)

    story.engine.before = damage
    with pytest.raises(
        TrainingFailed,
        match=r"step-000000045/head.safetensors: .*, and no checkpoint before it is intact",
    ):
        story.run()


class Snapshotting(Breaking):
    """Breaks, and recovers from a state in memory as the pipeline does."""

    def recover(self, lost: Sequence[int], checkpoint: Checkpoint | None) -> int:
        assert checkpoint is not None
        return self._step

    def train(self, first: int, last: int, on_step: OnStep) -> list[tuple[int, str]]:
        self._step = first if self.at is None else self.at
        return super().train(first, last, on_step)


def test_a_recovery_from_snapshots_reads_no_state_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    story = Story(tmp_path, at=47)
    story.engine.__class__ = Snapshotting
    real = Path.read_bytes

    def reading(path: Path) -> bytes:
        read.append(path.name)
        return real(path)

    def damage() -> None:
        for file in (tmp_path / "checkpoints").glob("step-*/*.safetensors"):
            flip(file)
        monkeypatch.setattr(Path, "read_bytes", reading)

    story.engine.before = damage
    story.run()
    assert len(story.of(Recovered)) == 1
    assert not story.of(Warned)
    assert set(read) == {"manifest.json"}
    whole = Story(tmp_path / "whole")
    whole.run()
    assert story.bits() == whole.bits()


class Steps(Callback):
    """Keeps the steps that it is told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def on_step(self, step: int, loss: float) -> None:
        self.told.append(step)


def test_a_step_that_is_computed_again_after_a_fault_is_told_once(tmp_path: Path) -> None:
    steps = Steps()
    story = Story(tmp_path, epochs=3, at=8, callbacks=[steps])
    story.run()
    (recovered,) = story.of(Recovered)
    assert recovered.repeated == 3  # from the checkpoint of step 5
    assert steps.told == [*range(1, 16)]
