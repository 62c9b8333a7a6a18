"""How tensors travel: NCCL where each rank has a GPU of its own, else gloo, and why."""

import pytest

from dfa_core import JobError
from workers.gpu import Gpu
from workers.groups.transport import choose, describe_links

A, B, C = (Gpu(name, 8e10) for name in ("GPU-a", "GPU-b", "GPU-c"))


@pytest.mark.parametrize(
    ("asked", "gpus", "chosen"),
    [
        ("auto", [None, None, None], "gloo"),
        ("auto", [None, A, B], "gloo"),
        ("auto", [A, B, B], "gloo"),
        ("auto", [A, B, C], "nccl"),
        ("nccl", [A, B, C], "nccl"),
        ("gloo", [A, B, C], "gloo"),
    ],
)
def test_nccl_is_for_ranks_with_a_gpu_each(asked: str, gpus: list[Gpu], chosen: str) -> None:
    assert choose(asked, gpus) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gpus", "why"),
    [
        ([None, A, B], r"the coordinator has none \(resources.coordinator_gpus=1"),
        ([A, B, None], r"1 of 2 worker\(s\) have none \(resources.gpus=1\)"),
        ([A, B, B], "2 ranks share GPU-b"),
    ],
)
def test_nccl_that_cannot_be_is_refused(gpus: list[Gpu | None], why: str) -> None:
    with pytest.raises(JobError, match=f"transport: nccl needs a GPU for each rank, and {why}"):
        choose("nccl", gpus)


def test_messages_say_where_ranks_meet_and_how() -> None:
    assert describe_links("gloo", [None, None], "127.0.0.1") == "gloo; the ranks meet at 127.0.0.1"
    assert "pinned memory" in describe_links("gloo", [None, A], "10.0.0.1")
    assert describe_links("nccl", [A, B], "10.0.0.1").startswith("NCCL")
