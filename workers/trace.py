"""Records when a process computes: the data of a timeline, and with torch's profiler, what."""

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile, record_function


@dataclass(frozen=True)
class Span:
    """One piece of computing: what, of which step and microbatch, from when to when.

    microbatch: its number in the step; -1 where the span is of the whole step.
    start, end: seconds of the system's clock, which all processes of a node share.
    """

    what: str
    step: int
    microbatch: int
    start: float
    end: float


@dataclass(frozen=True)
class Recording:
    """What one process has recorded.

    profile: torch's own trace of it, gzip of the JSON that Chrome and Perfetto read; empty where
        the profiler did not run.
    """

    spans: list[Span]
    profile: bytes = b""


class Tracer:
    """Records the spans of one process between start() and stop(); otherwise does nothing."""

    def __init__(self) -> None:
        self._spans: list[Span] | None = None
        self._profiler: Any = None

    def start(self, profiled: bool = False) -> None:
        """Start to record, with no spans yet; profiled: torch's profiler records the operations."""
        self.stop()
        self._spans = []
        if profiled:
            known = (ProfilerActivity.CUDA,) if torch.cuda.is_available() else ()
            threads = _ExperimentalConfig(profile_all_threads=True)
            self._profiler = profile(
                activities=[ProfilerActivity.CPU, *known], experimental_config=threads
            )
            self._profiler.start()

    def stop(self) -> Recording:
        """Stop recording; return what there is, no spans where nothing was recorded."""
        spans, self._spans = self._spans, None
        profiler, self._profiler = self._profiler, None
        return Recording(spans or [], b"" if profiler is None else _exported(profiler))

    @contextmanager
    def span(self, what: str, step: int, microbatch: int = -1) -> Iterator[None]:
        """Record what runs inside a `with`, unless it raises."""
        spans, start = self._spans, time()
        if self._profiler is None:
            yield
        else:
            of = f" of microbatch {microbatch}" if microbatch >= 0 else ""
            with record_function(f"{what}{of}, step {step}"):
                yield
        if spans is not None:
            spans.append(Span(what, step, microbatch, start, time()))


def _exported(profiler: Any) -> bytes:
    profiler.stop()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        return gzip.compress(file.read_bytes(), compresslevel=4)
