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
    "tests/coordinator/cli/",
    "tests/coordinator/engine/",
    "tests/coordinator/experiments/",
    "tests/coordinator/inspection/test_rendering.py",
    "tests/coordinator/launch/",
    "tests/coordinator/runs/",
    "tests/coordinator/training/test_numerics.py",
    "tests/dfa_speedup/test_same_work.py",
    "tests/test_docs.py",
    "tests/workers/life/",
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
