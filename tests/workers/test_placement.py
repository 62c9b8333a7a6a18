"""Where workers go: neighbours on one node, or as far apart as can be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.grid import Grid
from workers.placement import speeds_of_blocks


@pytest.mark.host
def test_neighbours_are_on_one_node_as_far_as_can_be() -> None:
    program = Path(__file__).parents[1] / "support" / "two_nodes.py"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}
    done = subprocess.run(
        [sys.executable, program],
        env={**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["spread"] == [True, False]
    assert found["pack"] == [True, True, False, False], "block 1 is where the data is"
    assert len(found["measured"]) == 2
    assert min(found["measured"]) > 0


def test_a_block_is_as_fast_as_its_slowest_replica() -> None:
    """Four workers, two replicas of two blocks; a node's workers count as equally fast."""
    grid = Grid(2, 2)
    assert speeds_of_blocks(["a", "a", "b", "b"], [4.0, 2.0, 1.0, 1.0], grid) == [1.0, 1.0]
    assert speeds_of_blocks(["a", "b", "a", "b"], [4.0, 1.0, 2.0, 1.0], grid) == [3.0, 1.0]
    assert speeds_of_blocks(["a", "b", "a", "b"], [1.2, 1.0, 1.2, 1.0], grid) is None
