"""The queue: first come first served, by priority; nobody starves; each wait has a reason."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coordinator.service.jobs.admission import Quotas, admit
from coordinator.service.processes.capacity import Capacity, Waiting


def waiting(number: int, workers: int, priority: int = 0, submitted: float = 0.0) -> Waiting:
    return Waiting(f"job-{number}", number, priority, submitted, workers, 1.0, 0.0)


CLUSTER = Capacity(4, 0)


def test_in_order_while_they_fit() -> None:
    queue = [waiting(3, 1), waiting(1, 2), waiting(2, 2)]
    started, reasons = admit(queue, CLUSTER, CLUSTER, now=1)
    assert started == ["job-1", "job-2"]
    assert reasons == {"job-3": "needs 1 worker x 1 CPU, free now: 0 CPU"}


def test_a_large_job_is_not_passed_by_small_ones() -> None:
    started, reasons = admit([waiting(1, 4), waiting(2, 1)], CLUSTER, Capacity(3, 0), now=1)
    assert started == []
    assert reasons == {
        "job-1": "needs 4 workers x 1 CPU, free now: 3 CPU",
        "job-2": "after job-1 in the queue",
    }


def test_what_can_never_fit_holds_nobody_back() -> None:
    started, reasons = admit([waiting(1, 5), waiting(2, 1)], CLUSTER, CLUSTER, now=1)
    assert started == ["job-2"]
    assert reasons == {"job-1": "needs 5 workers x 1 CPU, the cluster has 4 CPU"}


def test_the_coordinators_gpu_counts() -> None:
    job = replace(waiting(1, 2), gpus=1.0, coordinator_gpus=0.5)
    assert job.needs == "2 workers x 1 CPU and 1 GPU, and 0.5 GPU for the coordinator"
    started, reasons = admit([job], Capacity(4, 2), Capacity(4, 2), now=1)
    assert started == []
    assert reasons["job-1"].endswith("for the coordinator, the cluster has 4 CPU and 2 GPU")
    assert admit([job], Capacity(4, 3), Capacity(4, 3), now=1)[0] == ["job-1"]


def test_priority_and_patience() -> None:
    queue = [waiting(1, 4, priority=0), waiting(2, 4, priority=5, submitted=3000)]
    assert admit(queue, CLUSTER, CLUSTER, now=3001)[0] == ["job-1"]  # 5 times ten minutes
    assert admit(queue, CLUSTER, CLUSTER, now=2999)[0] == ["job-2"]


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(-5, 5)), max_size=12),
    st.integers(0, 4),
)
def test_started_jobs_fit_together_and_all_others_have_a_reason(
    asked: list[tuple[int, int]], free: int
) -> None:
    queue = [waiting(i, workers, priority) for i, (workers, priority) in enumerate(asked)]
    started, reasons = admit(queue, CLUSTER, Capacity(free, 0), now=0)
    workers = {job.job_id: job.workers for job in queue}
    assert sum(workers[job] for job in started) <= free
    assert set(started) | set(reasons) == set(workers)
    assert not set(started) & set(reasons)
    first = min(
        (j for j in queue if j.workers <= 4), key=lambda j: (-j.priority, j.number), default=None
    )
    assert first is None or first.workers > free or first.job_id in started


def test_a_users_limit_holds_back_this_users_jobs_alone() -> None:
    """Other users' jobs go ahead, and so do smaller ones of the same user."""
    queue = [
        replace(waiting(number, workers), owner=owner)
        for number, (owner, workers) in enumerate(
            [("alice", 2), ("alice", 3), ("alice", 9), ("bob", 4), ("alice", 1)], start=1
        )
    ]
    all_of = Capacity(32.0, 0.0)
    quotas = Quotas({"alice": 4}, {"alice": 1, "bob": 9})
    started, reasons = admit(queue, all_of, all_of, 0.0, quotas)
    assert started == ["job-1", "job-4", "job-5"]
    assert reasons == {
        "job-2": "needs 3 workers, and alice has 3 of 4",
        "job-3": "needs 9 workers, and alice may have 4",
    }
