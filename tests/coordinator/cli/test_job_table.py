"""The list of jobs on terminals of any width: long ids, owners and reasons."""

import io

import pytest
from errorcast.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_RUNNING, Job, JobSpec
from rich.cells import cell_len
from rich.console import Console

from coordinator.cli.job_text import job_table

REASON = (
    "layer 3 (TransformerEncoderLayer): the gradients of the attention's weights cannot be "
    "computed on 127.0.0.1; continue with errorcast resume fashion-mnist-residual-0123"
)


def job(number: int, reason: str, owner: str) -> Job:
    made = Job(
        id=f"fashion-mnist-residual-{number:04}",
        owner=owner,
        state=JOB_STATE_FAILED if reason == REASON else JOB_STATE_RUNNING,
        reason=reason,
        spec=JobSpec(blocks=1024, heads=16, replicas=128),
    )
    made.progress.step, made.progress.total_steps, made.progress.loss = 10**8, 2 * 10**8, 0.5
    made.submitted.seconds = 1_800_000_000
    return made


@pytest.mark.parametrize("width", [40, 60, 80, 132, 200])
def test_no_word_of_a_job_is_broken_or_lost(width: int) -> None:
    jobs = [job(123, REASON, "alice.of.the.long.name@example.org"), job(7, "queued", "bob")]
    console = Console(width=width, file=io.StringIO(), markup=False, emoji=False)
    console.print(job_table(jobs))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(cell_len, shown.splitlines())) <= width
    words = shown.split()
    for one in jobs:
        for word in (one.id, one.owner, *one.reason.split(), "100000000/200000000"):
            assert word in words
    assert ("0.5000" in words) or "--format json" in " ".join(words)


def test_jobs_fit_eighty_columns_in_lines() -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(job_table([job(1, "started at step 0", "")]))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= 5, lines
