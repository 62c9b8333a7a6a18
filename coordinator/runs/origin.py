"""What a run was trained from: its data, and the file of its task.

Weights of one job are worth little with other data: test rows that were trained on flatter the
score, and a resumed run is no longer the run it was.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from coordinator.job.resolve import Job
from coordinator.runs.sketch import Sketch, alike, sketch
from dfa_core import JobError
from dfa_core.seeding import derive
from dfa_tasks import Splits
from dfa_tasks.source import as_source, draws_nothing, pick
from dfa_tasks.stream import Stream

_SAMPLES = 8  # of each part of the data that are read, from its first to its last


@dataclass(frozen=True)
class Part:
    """One part of the data, such as its test data.

    size: number of samples, or of steps in an epoch.
    seen: sketches of the inputs and targets of a few samples; empty where reading a sample twice
        gives two samples.
    """

    size: int
    seen: tuple[tuple[Sketch, ...], ...]

    def other(self, now: "Part") -> str:
        """Return how this part differs from what is there now; empty where it does not."""
        if self.size != now.size:
            return f"it has {now.size} samples or steps, not {self.size}"
        if not self.seen or not now.seen or self._same(now):
            return ""
        return "its samples are other ones (what data() draws from must have a seed)"

    def _same(self, now: "Part") -> bool:
        if len(self.seen) != len(now.seen):
            return False
        return all(
            len(mine) == len(new) and all(map(alike, mine, new))
            for mine, new in zip(self.seen, now.seen, strict=True)
        )


@dataclass(frozen=True)
class Origin:
    """The parts of the data by name, and the task's file, if it has one, with its SHA-256."""

    parts: Mapping[str, Part]
    file: str = ""
    code: str = ""

    @classmethod
    def of(cls, job: Job, splits: Splits, stream: Stream | None = None) -> "Origin":
        """Look at a few samples of each part. Raises JobError where one cannot be read.

        stream: reads the training data, if they are a stream and it has begun to: it alone knows
            where they begin.
        """
        batch_size, seed = job.settings.batch_size, job.settings.seed
        named = {"training": splits.train, "test": splits.test, "validation": splits.validation}
        given = {name: data for name, data in named.items() if data is not None}
        parts = {
            name: _part(name, stream or data if name == "training" else data, batch_size, seed)
            for name, data in given.items()
        }
        file = job.settings.task.rpartition(":")[0] if job.task.code else ""
        return cls(parts, file, job.task.code)

    def other_parts(self, now: "Origin") -> dict[str, str]:
        """Return a line about each part that differs now, by its name."""
        missing = Part(0, ())
        names = dict.fromkeys((*self.parts, *now.parts))
        pairs = {n: (self.parts.get(n, missing), now.parts.get(n, missing)) for n in names}
        found = {name: there.other(here) for name, (there, here) in pairs.items()}
        return {
            name: f"the {name} data is not the data that this run began with: {how}"
            for name, how in found.items()
            if how
        }

    def warnings(self, began: "Origin | None") -> list[str]:
        """Return what the user of a run should know, a line each; began: what it began with."""
        found = [
            f"the {name} data gives other samples each time it is read, so the same job does not "
            f"give the same bits; seed what it draws from (the global generators are seeded)"
            for name, part in self.parts.items()
            if part.size and not part.seen
        ]
        if began is not None and began.code and self.code and began.code != self.code:
            found.append(f"{self.file} has changed since this run began; the new one is used")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any] | None) -> "Origin | None":
        """Return what as_json() was called on; None for a run of a version without it."""
        if saved is None:
            return None
        parts = {
            name: Part(part["size"], tuple(tuple(one) for one in part["seen"]))
            for name, part in saved["parts"].items()
        }
        return cls(parts, saved.get("file", ""), saved["code"])


def _part(name: str, data: Any, batch_size: int, seed: int) -> Part:
    """Read a few samples, twice where unknown code reads them."""
    try:
        is_source = hasattr(data, "batch") and hasattr(data, "steps_per_epoch")
        is_source = is_source or isinstance(data, IterableDataset)
        size = int(as_source(data, batch_size, seed).steps_per_epoch) if is_source else len(data)
        read = partial(_first_batch if is_source else _few_samples, data, batch_size, seed)
        part = Part(size, tuple(read()))
        if not draws_nothing(data) and part.other(Part(size, tuple(read()))):
            return Part(size, ())
    except JobError as error:
        raise JobError(f"the {name} data: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise JobError(f"the {name} data cannot be read: {reason}") from error
    return part


def _first_batch(data: Any, batch_size: int, seed: int) -> Iterator[tuple[Sketch, ...]]:
    source = data if isinstance(data, Stream) else as_source(data, batch_size, seed)
    yield _of_pair(source.batch(0))
    if isinstance(source, Stream):
        source.close()


def _few_samples(data: Any, _: int, seed: int) -> Iterator[tuple[Sketch, ...]]:
    last = len(data) - 1
    for index in sorted({last * i // (_SAMPLES - 1) for i in range(_SAMPLES)} if last >= 0 else ()):
        yield _of_pair(pick(data, torch.tensor([index]), derive(seed, "origin")))


def _of_pair(pair: Any) -> tuple[Sketch, ...]:
    """Return the sketches of all tensors of an (input, target) pair, however it holds them."""
    if isinstance(pair, Tensor):
        return (sketch(pair),)
    values = pair.values() if isinstance(pair, Mapping) else pair
    return tuple(one for value in values for one in _of_pair(value))
