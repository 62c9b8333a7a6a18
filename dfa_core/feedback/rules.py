"""The feedback rules: what is broadcast to the blocks, and which matrix projects it.

All are layer-parallel: a block needs nothing except the broadcast.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FeedbackKind = Literal["random", "identity", "sign", "target", "learned"]
Broadcast = Literal["error", "sign", "target"]
Matrix = Literal["random", "identity", "learned"]


@dataclass(frozen=True)
class FeedbackRule:
    """One rule.

    broadcast: `error`, the global error e; `sign`, its sign; `target`, minus the one-hot class,
        which is known before the head has run, so that no block waits for it.
    matrix: B_i is `random`, drawn once and fixed; `identity`; or `learned`, drawn once and then
        trained from the error and the layer's output.
    source: the paper.
    """

    broadcast: Broadcast
    matrix: Matrix
    source: str


FEEDBACK_RULES: Mapping[FeedbackKind, FeedbackRule] = {
    "random": FeedbackRule("error", "random", "DFA: Nøkland 2016, eq. 7; arXiv 2006.12878"),
    "identity": FeedbackRule("error", "identity", "B=I; arXiv 2501.17086, k=0"),
    "sign": FeedbackRule("sign", "random", "error-sign DFA: Frenkel 2021, eq. 6"),
    "target": FeedbackRule("target", "random", "DRTP: Frenkel 2021, eq. 9"),
    "learned": FeedbackRule("error", "learned", "DKP: Webster 2021, after Kolen and Pollack 1994"),
}
