"""A profile of some steps: the operations of every process, in one file for Perfetto."""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coordinator.engine.plan import Plan
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import Emit, Noted
from coordinator.training.tracing import Traceable, TraceRequest
from dfa_core.atomic_file import write_atomically

FILE = "profile.json.gz"


class ProfileRequest(TraceRequest):
    """Asks a run to profile some steps, after its first ones, into a file."""

    def __init__(
        self, steps: int, file: Path, names: Sequence[str], note: Callable[[str], None]
    ) -> None:
        """names: of the processes, as the engine gives their recordings.

        note: gets one line that says where the file is, or why there is none.
        """
        super().__init__(steps)
        self._file, self._names, self._note = file, names, note
        self._seen = 0

    def end(self, first: int, last: int, longest: int, total: int) -> int | None:
        """Return where a profiled segment ends, as for a trace; the first segment warms up."""
        self._seen += 1
        if self._seen == 1 and last < total:
            return None
        return super().end(first, last, longest, total)

    def answer(self, train: Callable[[], None], engine: Traceable) -> None:
        """Train some steps while torch's profiler runs in every process; write the file."""
        engine.trace(profiled=True)
        train()
        profiles = [recording.profile for recording in engine.recordings()]
        try:
            write_atomically(self._file, merged(profiles, self._names))
        except OSError as error:
            self._note(f"profile: {self._file} cannot be written: {error}")
        else:
            self._note(f"profile: {self._file}; open it at ui.perfetto.dev")

    def give_up(self, why: str) -> None:
        """Say that nothing was profiled."""
        self._note(f"profile: nothing was profiled: {why}")


def profile_of(plan: Plan, steps: int, folder: RunFolder, emit: Emit) -> ProfileRequest:
    """Return the request to profile some steps into the run's folder."""
    names = [*(name for name, _ in plan.held()), "coordinator"]
    return ProfileRequest(steps, folder.path / FILE, names, lambda line: emit(Noted(line)))


def merged(profiles: Sequence[bytes], names: Sequence[str]) -> bytes:
    """Return one gzipped trace of several processes, a row of tracks each, on one clock.

    profiles: as Recording.profile; names: of the processes.
    """
    traces = {
        number: json.loads(gzip.decompress(profile))
        for number, profile in enumerate(profiles)
        if profile
    }
    base = min((_base_ns(trace) for trace in traces.values()), default=0)
    events: list[dict[str, Any]] = []
    for number, trace in traces.items():
        events += _of_process(trace, number, names[number], (_base_ns(trace) - base) / 1e3)
    began = min((event["ts"] for event in events if event["ph"] == "X"), default=0.0)
    for event in events:
        if "ts" in event:
            event["ts"] -= began
    return gzip.compress(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}).encode())


def _base_ns(trace: Mapping[str, Any]) -> int:
    """Return the time of the system's clock that a trace counts from."""
    return int(trace.get("baseTimeNanoseconds", 0))


def _of_process(
    trace: Mapping[str, Any], number: int, name: str, later_us: float
) -> list[dict[str, Any]]:
    """Return a process's events under its own number; later_us: what its times begin later."""
    threads: dict[tuple[Any, Any], int] = {}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": {"name": name}},
        {
            "ph": "M",
            "name": "process_sort_index",
            "pid": number,
            "tid": 0,
            "args": {"sort_index": number},
        },
    ]
    for event in trace["traceEvents"]:
        if str(event.get("name")).startswith("process_"):
            continue
        thread = threads.setdefault((event.get("pid"), event.get("tid")), len(threads))
        own = event | {"pid": number, "tid": thread}
        if "ts" in own:
            own["ts"] += later_us
        events.append(own)
    return events
