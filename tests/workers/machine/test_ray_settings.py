"""Settings of Ray for every node that errorcast starts."""

import os

import ray


@ray.remote
def niceness() -> int:
    return os.nice(0)


def test_a_worker_has_the_priority_of_the_run(a_ray: None) -> None:
    assert ray.get(niceness.remote()) == os.nice(0)
