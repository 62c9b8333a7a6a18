"""Measures a job against backpropagation: builds the workload, runs all sides, gathers results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coordinator.experiments.errorcast_side import ErrorcastSide
from coordinator.experiments.tables import bench_cells
from coordinator.job.resolve import Job
from coordinator.job.user_code import pack
from coordinator.launch.ray_session import ray_for
from coordinator.planning.workload import timing_workload
from coordinator.runs.valid_json import json_text
from dfa_core import JobError
from dfa_speedup.bench_workers import BenchWorkers
from dfa_speedup.comparison import Comparison, Progress
from dfa_speedup.peers import ERRORCAST
from dfa_speedup.results.page import write_page
from dfa_speedup.results.pictures import draw_speedups, draw_timelines
from dfa_speedup.results.report import machine, rows, summary
from dfa_speedup.results.timeline import chrome_trace
from workers.placement import WorkerResources


def measure(
    job: Job,
    microbatches: Sequence[int],
    rounds: int,
    steps: int,
    progress: Progress,
    ray_address: str | None = None,
) -> tuple[dict[str, Any], Comparison]:
    """Run every side; return the figures of bench.json, and the comparison they come from.

    Raises JobError when errorcast itself cannot run the job as given.
    """
    resources = job.settings.resources
    if resources.gpus:
        raise JobError("resources.gpus: the comparison runs on CPUs; set it to 0")
    if job.settings.replicas > 1:
        raise JobError("replicas: the comparison gives each side one replica; set it to 1")
    workload = timing_workload(job, microbatches)
    worker_resources = WorkerResources(resources.cpus, resources.gpus, resources.threads)
    payload = pack(workload, job.settings.working_dir)
    with ray_for(len(job.grid), resources.cpus, ray_address):
        workers = BenchWorkers(payload, len(job.grid), worker_resources, resources.timeout_s)
        ours = ErrorcastSide(payload, resources, job.settings.heads)
        try:
            comparison = Comparison(workload, workers, ours, microbatches, progress)
            comparison.run(rounds, steps)
        finally:
            ours.stop()
            workers.stop()
    return results(job.task.name, comparison), comparison


def results(task: str, comparison: Comparison) -> dict[str, Any]:
    """Return the figures of bench.json, as far as they were measured."""
    workload = comparison.workload
    return {
        "format": 1,
        "task": task,
        "machine": machine(),
        "summary": summary(workload, comparison),
        "rows": rows(workload, comparison),
    }


def write_results(out: Path, found: Mapping[str, Any], comparison: Comparison) -> None:
    """Write bench.json, timeline.json, both pictures and report.html into the folder."""
    best = [row for row in found["rows"] if row["best"]]
    spans = {
        f"{side.configuration.label}, M {side.configuration.microbatches}": comparison.spans[
            side.configuration
        ]
        for side in (comparison.best(ERRORCAST), comparison.best("1F1B"))
        if side.configuration in comparison.spans
    }
    pictures = [out / "speedup.png", out / "timeline.png"]
    draw_speedups(best, pictures[0], f"Speedup of errorcast: {found['task']}")
    draw_timelines(spans, pictures[1])
    (out / "bench.json").write_text(json_text(found, indent=1), encoding="utf-8")
    (out / "timeline.json").write_text(json.dumps(chrome_trace(spans)), encoding="utf-8")
    columns, cells = bench_cells(found["rows"], every=True)
    write_page(out / "report.html", found, columns, cells, pictures)
