"""Metrics for Prometheus: jobs, their speed and loss, and the time of calls."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.service.jobs.record import Record
from coordinator.service.jobs.states import FINAL, LEGAL, name

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)
CALL_SECONDS = Histogram(
    "errorcast_call_seconds",
    "Duration of a call; of a stream from its first to its last message.",
    ["method"],
    buckets=_BUCKETS,
)


class JobMetrics(Collector):
    """Reads the jobs at each scrape, so that a deleted job leaves no metric."""

    def __init__(self, jobs: Callable[[], Sequence[Record]]) -> None:
        self._jobs = jobs
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        records = self._jobs()
        states = GaugeMetricFamily("errorcast_jobs", "Number of jobs in a state.", labels=["state"])
        for state in LEGAL:
            states.add_metric([name(state)], sum(r.job.state == state for r in records))
        yield states
        yield from self._of_jobs([r for r in records if r.job.state not in FINAL])

    def _of_jobs(self, records: Sequence[Record]) -> Iterator[Metric]:
        step = GaugeMetricFamily("errorcast_step", "Number of finished steps.", labels=["job"])
        seconds = GaugeMetricFamily(
            "errorcast_step_seconds", "Median duration of a step.", labels=["job"]
        )
        loss = GaugeMetricFamily("errorcast_loss", "Training loss.", labels=["job"])
        labels = ["job", "process"]
        busy = GaugeMetricFamily(
            "errorcast_busy_share", "Share of the time a process computes.", labels=labels
        )
        for record in records:
            job, progress = record.job, record.job.progress
            step.add_metric([job.id], progress.step)
            seconds.add_metric([job.id], progress.step_seconds)
            loss.add_metric([job.id], progress.loss)
            for load in progress.processes:
                busy.add_metric([job.id, load.process], load.busy)
        yield from (step, seconds, loss, busy)
