"""The folder of a comparison: what was measured is written as it goes, to be gone on with."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from coordinator.experiments.race import Race
from coordinator.job.settings import DEFAULTS
from coordinator.job.spec import merge
from dfa_core import JobError
from dfa_core.atomic_file import write_atomically
from dfa_speedup.measured import Measurements

RESULTS = "bench.json"
_MEASURED = "measured.json"


@dataclass
class Record:
    """All that was measured of a job on a machine."""

    format: Literal[1]
    job: dict[str, Any]
    machine: dict[str, Any]
    measurements: Measurements
    race: Race | None = None

    def shape(self) -> dict[str, Any]:
        """Return the blocks and heads of the job, and the head's place, as settings."""
        head = {"head": self.job["resources"]["head"]}
        return {"blocks": self.job["blocks"], "heads": self.job["heads"], "resources": head}


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class BenchFolder:
    """measured.json holds a Record; bench.json and all other files are made from it."""

    path: Path

    def earlier(self) -> Record:
        """Return what the comparison in this folder has measured. Raises JobError without one."""
        file = self.path / _MEASURED
        try:
            return _RECORD.validate_json(file.read_bytes())
        except FileNotFoundError:
            raise JobError(
                f"--resume: {self.path} holds no comparison ({file} is missing)"
            ) from None
        except (OSError, ValidationError) as error:
            why = " ".join(str(error).split())[:200]
            raise JobError(f"--resume: {file} cannot be read: {why}") from error

    def set_aside(self) -> Path | None:
        """Move the results of an earlier comparison into a folder of their own; return it."""
        there = [file for file in self.path.iterdir() if file.name in (RESULTS, _MEASURED)]
        if not there:
            return None
        ended = time.localtime(max(file.stat().st_mtime for file in there))
        aside = self.path / time.strftime("before-%Y%m%d-%H%M%S", ended)
        aside.mkdir(exist_ok=True)
        for file in (f for f in self.path.iterdir() if f.is_file() and f.name != "lock"):
            file.rename(aside / file.name)
        return aside

    def keep(self, record: Record, results: str) -> None:
        """Write what is measured so far, and bench.json. Raises OSError."""
        write_atomically(self.path / _MEASURED, _RECORD.dump_json(record))
        write_atomically(self.path / RESULTS, results.encode())


def check_same(path: Path, earlier: Record, job: dict[str, Any], machine: dict[str, Any]) -> None:
    """Raise JobError where what was measured is of another job or another machine."""
    defaults = {name: value for name, value in DEFAULTS.items() if name in job}
    there = merge(defaults, earlier.job)  # an older one lacks newer fields
    parts = (("job", there, job), ("machine", earlier.machine, machine))
    for what, before, now in parts:
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise JobError(
                    f"--resume: {path} holds measurements of another {what}: its {name} is "
                    f"{before.get(name)}, not {now.get(name)}; name another --out"
                )
