"""Checkpoints at step boundaries: a folder of state files, and a manifest that makes it valid.

The manifest is written last, and at once, so an unfinished checkpoint is never taken for one. It
holds its own checksum and that of every file, so a damaged file is never loaded.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from coordinator.job.spec import Settings
from coordinator.runs.early_stopping import Best
from coordinator.runs.origin import Origin
from coordinator.runs.plateau import Plateau
from coordinator.runs.state import RunState
from dfa_core import JobError
from workers.state_files import SavedModules, StateFile
from workers.storage import Folder

_MANIFEST = "manifest.json"
_FORMAT = 2
_STEP = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """A saved state: of the run, of which job, and the files with the state of each module.

    origin: what it was trained from; None in a checkpoint of a version that did not save it.
    """

    state: RunState
    job: Settings
    modules: SavedModules
    origin: Origin | None = None

    @property
    def step(self) -> int:
        """Return the number of steps that were done."""
        return self.state.step

    def __str__(self) -> str:
        return str(self.modules.folder)


def write_checkpoint(
    folder: Folder,
    state: RunState,
    job: Settings,
    save: Callable[[Folder], list[StateFile]],
    keep: int,
    origin: Origin | None = None,
) -> Folder:
    """Write a checkpoint; return its folder.

    Then remove older ones beyond the newest `keep`, but not that of the best step. An existing one
    of the same step stays as it is: the new one gets a folder of its own.

    save: writes the state of every module into a folder.
    origin: what the run is trained from.

    Raises OSError when a write fails; older checkpoints stay whole.
    """
    names = folder.names()
    base = name = f"{_STEP}{state.step:09d}"
    again = 0
    while name in names:
        again += 1
        name = f"{base}.{again:03d}"
    there = folder.child(name)
    try:
        files = save(there)
        body = {
            "format": _FORMAT,
            "step": state.step,
            "job": job,
            "cuts": list(state.cuts),
            "best": asdict(state.best) if state.best else None,
            "plateau": asdict(state.plateau) if state.plateau else None,
            "data": state.data,
            "parts": [file.entry() for file in files],
            "origin": origin.as_json() if origin else None,
        }
        sealed = {**body, "sha256": _seal(body)}
        there.write(_MANIFEST, json.dumps(sealed, indent=1).encode())
    except BaseException:
        folder.remove(name)
        raise
    _tidy(folder, keep, state.best.step if state.best else state.step)
    return there


def newest_checkpoint(
    folder: Folder,
    counts: Callable[[Checkpoint], bool] = lambda _: True,
    rejected: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint, and what is wrong with newer ones.

    Only manifests are read, and the sizes of state files: who loads a file verifies it, and adds
    the checkpoint to `rejected` when the file is damaged.

    counts: which checkpoints to consider.
    rejected: what is wrong with checkpoints that must be skipped, by their folders' names.

    Returns None where there is no checkpoint, or none without damage.
    """
    damages: list[str] = []
    for there in _newest_first(folder):
        try:
            checkpoint = read_manifest(there)
            if not counts(checkpoint):
                continue
            if str(there) not in rejected:
                checkpoint.modules.check()
                return checkpoint, damages
            damages.append(rejected[str(there)])
        except JobError as error:
            damages.append(str(error))
    return None, damages


def all_checkpoints(folder: Folder) -> list[Checkpoint]:
    """Return the newest checkpoint of every step, by step; only manifests are read."""
    found: dict[int, Checkpoint] = {}
    for there in _newest_first(folder):
        with contextlib.suppress(JobError):
            checkpoint = read_manifest(there)
            checkpoint.modules.check()
            found.setdefault(checkpoint.step, checkpoint)
    return [found[step] for step in sorted(found)]


def read_manifest(there: Folder) -> Checkpoint:
    """Return a checkpoint; its state files are not looked at.

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
    files = [StateFile.of_entry(entry) for entry in body["parts"]]
    best = Best(**body["best"]) if body.get("best") else None
    plateau = Plateau(**body["plateau"]) if body.get("plateau") else None
    state = RunState(body["step"], tuple(body["cuts"]), best, plateau, body.get("data"))
    modules = SavedModules(there, {file.module: file for file in files})
    return Checkpoint(state, body["job"], modules, Origin.from_json(body.get("origin")))


def remove_after(folder: Folder, step: int) -> None:
    """Remove the checkpoints of later steps: the run was rolled back."""
    for name in folder.names():
        digits = name.removeprefix(_STEP).partition(".")[0]
        if name.startswith(_STEP) and digits.isdigit() and int(digits) > step:
            _remove(folder, name)


def _seal(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _newest_first(folder: Folder) -> Iterator[Folder]:
    for name in sorted((n for n in folder.names() if n.startswith(_STEP)), reverse=True):
        there = folder.child(name)
        if _MANIFEST in there.names():
            yield there


def _tidy(folder: Folder, keep: int, best: int) -> None:
    """Remove all but the newest `keep` and the best, and what killed processes left unfinished."""
    names = [n for n in folder.names() if n.startswith(_STEP)]
    whole = [n for n in sorted(names, reverse=True) if _MANIFEST in folder.child(n).names()]
    of_best = [name for name in whole if name.startswith(f"{_STEP}{best:09d}")]
    for name in set(names) - set(whole[:keep]) - set(of_best):
        _remove(folder, name)


def _remove(folder: Folder, name: str) -> None:
    folder.child(name).remove(_MANIFEST)  # first: without it the rest is no checkpoint
    folder.remove(name)
