"""Divides the tests among processes (pytest -n): tests that share something stay together.

All tests of the service run in one process, one after another, and so do those of the engine, which
share their workers. Whichever process is free takes the next group, the long ones first. A process
starts a Ray of its own when a test needs one.
"""

from collections import OrderedDict

from xdist.scheduler import LoadScopeScheduling

_TOGETHER = {
    "service": (
        "tests/coordinator/service/",
        "tests/coordinator/experiments/test_nodes.py",
        "tests/workers/test_placement.py",
    ),
    "engine": (
        "tests/coordinator/engine/",
        "tests/coordinator/training/test_numerics.py",
        "tests/workers/life/",
    ),
}
_FIRST = (
    "service",
    "engine",
    "tests/coordinator/cli/test_processes.py",
    "tests/coordinator/launch/test_train.py",
    "tests/coordinator/launch/notebook/test_cell.py",
    "tests/docs/test_notebooks.py",
    "tests/coordinator/cli/test_cli.py",
    "tests/coordinator/experiments/sweep/test_sweep.py",
    "tests/dfa_speedup/test_same_work.py",
    "tests/coordinator/experiments/test_bench_faults.py",
    "tests/coordinator/experiments/test_chaos.py",
    "tests/coordinator/experiments/test_method_comparison.py",
    "tests/coordinator/runs/trackers/test_kill.py",
    "tests/coordinator/experiments/leaderboard/test_board.py",
    "tests/coordinator/experiments/test_bench.py",
    "tests/coordinator/runs/trackers/test_trackers.py",
    "tests/coordinator/runs/test_plateau.py",
    "tests/test_learning.py",
    "tests/coordinator/inspection/test_export.py",
    "tests/coordinator/launch/test_slow_work.py",
)


def group_of(nodeid: str) -> str:
    """Return what a test shares its process with: the name of a group, or its own file."""
    for group, places in _TOGETHER.items():
        if nodeid.startswith(places):
            return group
    return nodeid.split("::", maxsplit=1)[0]


class ScheduledByGroup(LoadScopeScheduling):
    """Gives out the long groups first, then the other files."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: object) -> None:
        for group in reversed(_FIRST):
            if group in self.workqueue:
                OrderedDict.move_to_end(self.workqueue, group, last=False)
        super()._assign_work_unit(node)
