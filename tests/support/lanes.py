"""Divides the tests among processes (pytest -n) so that one Ray and one service are enough.

All tests that share the session's Ray run in one process, one after another, and so do those of the
service. Whichever process is free takes the other files, one at a time.
"""

from collections import OrderedDict

from xdist.scheduler import LoadScopeScheduling

_SERVICE = (
    "tests/coordinator/service/",
    "tests/coordinator/engine/test_ipv6.py",
    "tests/coordinator/experiments/test_nodes.py",
    "tests/workers/test_placement.py",
)
_RAY = (
    "tests/coordinator/cli/test_cli.py",
    "tests/coordinator/cli/test_processes.py",
    "tests/coordinator/engine/test_any_model.py",
    "tests/coordinator/engine/test_exact.py",
    "tests/coordinator/engine/test_families.py",
    "tests/coordinator/engine/test_forms.py",
    "tests/coordinator/engine/test_reparametrized.py",
    "tests/coordinator/engine/test_replicas.py",
    "tests/coordinator/experiments/test_bench.py",
    "tests/coordinator/experiments/test_chaos.py",
    "tests/coordinator/experiments/test_method_comparison.py",
    "tests/coordinator/inspection/test_rendering.py",
    "tests/coordinator/launch/test_other_forms.py",
    "tests/coordinator/launch/test_slow_work.py",
    "tests/coordinator/launch/test_train.py",
    "tests/coordinator/runs/test_early_stopping.py",
    "tests/coordinator/runs/test_old_runs.py",
    "tests/coordinator/runs/test_plateau.py",
    "tests/coordinator/training/test_numerics.py",
    "tests/dfa_speedup/test_same_work.py",
    "tests/test_docs.py",
    "tests/workers/life/test_monitor.py",
)
_FIRST = ("ray", "service")


def lane_of(nodeid: str) -> str:
    """Return what a test shares its process with: the name of a lane, or its own file."""
    if nodeid.startswith(_SERVICE):
        return "service"
    if nodeid.startswith(_RAY):
        return "ray"
    return nodeid.split("::", maxsplit=1)[0]


class Lanes(LoadScopeScheduling):
    """Gives out the two long lanes first, then the files."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)

    def _assign_work_unit(self, node: object) -> None:
        for lane in reversed(_FIRST):
            if lane in self.workqueue:
                OrderedDict.move_to_end(self.workqueue, lane, last=False)
        super()._assign_work_unit(node)
