"""Reads what W&B's own files hold of a run: one file for each start of it, online or offline."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_WRITES_ON_S = 3.0  # wandb-core looks every 2 s whether the process that it writes for still lives


def last_steps(place: Path, run_id: str, kinds: Mapping[str, str]) -> dict[str, int]:
    """Return the last step of each kind of line in all files of a run.

    place: the folder with W&B's folder in it. kinds: the name of each kind's step, by kind.

    Raises RuntimeError for a file that wandb cannot read.
    """
    last: dict[str, int] = {}
    for file in _files(place, run_id):
        _wait_for_writer(file)
        for row in rows(file):
            for kind, step in kinds.items():
                if step in row:
                    last[kind] = max(int(row[step]), last.get(kind, -1))
    return last


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the history in a file, by wandb's own reader.

    A killed run's file may end in the middle of a row, which is skipped.

    Raises RuntimeError where wandb cannot read the file.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode and not done.stdout and "incomplete" not in done.stderr:
        said = " ".join(done.stderr.split())
        raise RuntimeError(f"{file} cannot be read, so nothing is added to it: {said}")
    for line in done.stdout.splitlines():
        record = json.loads(line)
        if record["type"] == "history":
            yield record["history"]["item"]


def _files(place: Path, run_id: str) -> list[Path]:
    return sorted(place.glob(f"*wandb/*run-*-{run_id}/run-{run_id}.wandb"))


def _wait_for_writer(file: Path) -> None:
    """Wait until a killed process's wandb-core, which is a process of its own, has ended too."""
    while (left := file.stat().st_mtime + _WRITES_ON_S - time.time()) > 0:
        time.sleep(left)
