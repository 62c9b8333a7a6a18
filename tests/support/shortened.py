"""Commands that take hours as they are shown, with further options that make them short.

They run, which shows that they can be run; their figures are not those of the page.
"""

import shlex
from collections.abc import Sequence

_SHORT = {  # a later option overrides an earlier one
    "errorcast bench": "--rounds 1 --steps 1",
    "errorcast compare": "--seeds 1 --epochs 1",
    "errorcast train": "--epochs 1",
    "benchmarks.graphs": "--rounds 1",
    "benchmarks.one_process": "--rounds 1 --steps 1 --width 256 --batch 64",
    "benchmarks.replicas": "--rounds 1 --steps 1",
    "benchmarks.rules": "--rounds 1 --steps 1",
    "benchmarks.service": "--seconds 1 --rounds 1",
    "benchmarks.snapshots": "--rounds 1",
    "benchmarks.step": "--rounds 1 --steps 1",
}
_SOON_REACHED = {"--to-accuracy": "10", "--to-loss": "4.1"}  # better than a guess, by little
BOARD = "board"  # results that are there are not measured again


def shortened(line: str) -> str:
    """Return a shell's line with options that make it short; others come back as they are."""
    words = shlex.split(line)
    more = _SHORT.get(_program(words), "")
    for option, value in _SOON_REACHED.items():
        if option in words:
            more += f" {option} {value}"
    if words[:2] == ["errorcast", "leaderboard"]:
        more = f"--dir {BOARD}"
    return f"{line} {more}".rstrip()


def _program(words: Sequence[str]) -> str:
    return words[2] if words[:2] == ["python", "-m"] else " ".join(words[:2])
