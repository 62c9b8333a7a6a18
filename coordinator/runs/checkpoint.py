"""Checkpoints at step boundaries: a folder of state files that a manifest makes count.

The manifest is written last, and in one piece, so that half of a checkpoint is never taken for one;
it holds its own checksum and that of every file, so that a damaged one is never taken for whole.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from coordinator.job.spec import Settings
from coordinator.runs.early_stopping import Best
from coordinator.runs.plateau import Plateau
from dfa_core import JobError
from workers.state_files import SavedModules, StateFile
from workers.storage import Folder

_MANIFEST = "manifest.json"
_FORMAT = 2
_STEP = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """A saved state: after how many steps, of which job, and where its files are.

    cuts: the steps from which the learning rate was cut.
    best: the best evaluation up to there, where the job chooses by one; plateau: the least loss,
    where the learning rate depends on it.
    """

    step: int
    job: Settings
    cuts: tuple[int, ...]
    parts: SavedModules
    best: Best | None = None
    plateau: Plateau | None = None

    def __str__(self) -> str:
        return str(self.parts.folder)


def write_checkpoint(
    folder: Folder,
    step: int,
    job: Settings,
    cuts: Sequence[int],
    save: Callable[[Folder], list[StateFile]],
    keep: int,
    best: Best | None = None,
    plateau: Plateau | None = None,
) -> Folder:
    """Write the state after `step` steps; return its folder.

    Older ones beyond `keep` are then removed, but not that of the best step. One of the same step
    is left as it is, for the new one is a folder of its own.

    Raises OSError when the disk does not take it; older checkpoints stay whole.
    """
    names = folder.names()
    base = name = f"{_STEP}{step:09d}"
    again = 0
    while name in names:
        again += 1
        name = f"{base}.{again:03d}"
    there = folder.child(name)
    try:
        files = save(there)
        body = {
            "format": _FORMAT,
            "step": step,
            "job": job,
            "cuts": list(cuts),
            "best": asdict(best) if best else None,
            "plateau": asdict(plateau) if plateau else None,
            "parts": [file.entry() for file in files],
        }
        sealed = {**body, "sha256": _seal(body)}
        there.write(_MANIFEST, json.dumps(sealed, indent=1).encode())
    except BaseException:
        folder.remove(name)
        raise
    _tidy(folder, keep, best.step if best else step)
    return there


def newest_whole(
    folder: Folder, counts: Callable[[Checkpoint], bool] = lambda _: True
) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that is as it was written, and what is wrong with newer.

    counts: leaves out others. None where there is no checkpoint at all, or none that is whole.
    """
    damages: list[str] = []
    for there in _newest_first(folder):
        try:
            checkpoint = read_manifest(there)
            if counts(checkpoint):
                checkpoint.parts.check()
                return checkpoint, damages
        except JobError as error:
            damages.append(str(error))
    return None, damages


def all_whole(folder: Folder) -> list[Checkpoint]:
    """Return the checkpoints that are as they were written, by step."""
    found: dict[int, Checkpoint] = {}
    for there in _newest_first(folder):
        with contextlib.suppress(JobError):
            checkpoint = read_manifest(there)
            checkpoint.parts.check()
            found.setdefault(checkpoint.step, checkpoint)
    return [found[step] for step in sorted(found)]


def read_manifest(there: Folder) -> Checkpoint:
    """Return a checkpoint, its files not yet looked at.

    Raises JobError when the manifest is missing, altered, or of another version.
    """
    try:
        sealed: dict[str, Any] = json.loads(there.read(_MANIFEST))
        body = {name: value for name, value in sealed.items() if name != "sha256"}
        known, seal = sealed["format"], sealed.get("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JobError(f"{there}/{_MANIFEST}: cannot be read: {error}") from error
    if known != _FORMAT:
        raise JobError(f"{there}: has format {known}, this version reads {_FORMAT}")
    if seal != _seal(body):
        raise JobError(f"{there}/{_MANIFEST}: is not what was written (SHA-256 differs)")
    files = {file.module: file for file in map(StateFile.of_entry, body["parts"])}
    cuts = tuple(body["cuts"])
    best = Best(**body["best"]) if body.get("best") else None
    plateau = Plateau(**body["plateau"]) if body.get("plateau") else None
    parts = SavedModules(there, files)
    return Checkpoint(body["step"], body["job"], cuts, parts, best, plateau)


def _seal(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _newest_first(folder: Folder) -> Iterator[Folder]:
    for name in sorted((n for n in folder.names() if n.startswith(_STEP)), reverse=True):
        there = folder.child(name)
        if _MANIFEST in there.names():
            yield there


def _tidy(folder: Folder, keep: int, best: int) -> None:
    """Remove what is older than the newest `keep`, and what a killed process left half written."""
    names = [n for n in folder.names() if n.startswith(_STEP)]
    whole = [n for n in sorted(names, reverse=True) if _MANIFEST in folder.child(n).names()]
    of_best = [name for name in whole if name.startswith(f"{_STEP}{best:09d}")]
    for name in set(names) - set(whole[:keep]) - set(of_best):
        folder.child(name).remove(_MANIFEST)  # first: from here on it does not count
        folder.remove(name)
