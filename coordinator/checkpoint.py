"""Checkpoints at step boundaries: a folder of state files that a manifest makes count."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coordinator.spec import Settings
from dfa_core import JobError
from workers.state_files import StateFile, file_name, write_durably

_MANIFEST = "manifest.json"
_FORMAT = 1


def write_checkpoint(
    folder: Path, step: int, job: Settings, save: Callable[[Path], list[StateFile]], keep: int
) -> Path:
    """Write the state after `step` steps; return its folder.

    It is written under another name and renamed when the disk has all of it, so that half of a
    checkpoint is never taken for one. Older ones beyond `keep` are then removed.

    Raises OSError when the disk does not take it; older checkpoints stay whole.
    """
    final = folder / f"step-{step:09d}"
    unfinished = folder / f".{final.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        files = save(unfinished)
        manifest = {
            "format": _FORMAT,
            "step": step,
            "job": job,
            "parts": [asdict(file) for file in files],
        }
        write_durably(unfinished / _MANIFEST, json.dumps(manifest, indent=1).encode())
        _sync(unfinished)
        if final.exists():  # the same step, from before a resume
            shutil.rmtree(final)
        unfinished.rename(final)
        _sync(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    for old in list(_newest_first(folder))[keep:]:
        shutil.rmtree(old)
    return final


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that is as it was written, and what is wrong with newer.

    None where there is no checkpoint at all, or none that is whole.
    """
    damages = []
    for checkpoint in _newest_first(folder):
        try:
            read_manifest(checkpoint)
        except JobError as error:
            damages.append(str(error))
        else:
            return checkpoint, damages
    return None, damages


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest once every file is found as it was written.

    Raises JobError, naming the file, when one is missing, of another size or altered.
    """
    try:
        manifest: dict[str, Any] = json.loads((checkpoint / _MANIFEST).read_bytes())
        known = manifest["format"]
        files = [StateFile(**part) for part in manifest["parts"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"{checkpoint / _MANIFEST}: cannot be read: {error}") from error
    if known != _FORMAT:
        raise JobError(f"{checkpoint}: has format {known}, this version reads {_FORMAT}")
    for file in files:
        path = checkpoint / file_name(file.part)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise JobError(f"{path}: cannot be read: {error}") from error
        if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            raise JobError(f"{path}: is not what was written (size or SHA-256 differ)")
    return manifest


def _newest_first(folder: Path) -> Iterator[Path]:
    yield from sorted((p.parent for p in folder.glob(f"step-*/{_MANIFEST}")), reverse=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
