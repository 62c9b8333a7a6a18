"""The feedback rules: what is broadcast to the blocks, and which matrix projects it.

All are layer-parallel: a block needs nothing except the broadcast.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FeedbackKind = Literal["random", "identity", "sign", "target", "learned", "local", "forward"]
Broadcast = Literal["error", "sign", "target", "derivative"]
Matrix = Literal["random", "identity", "learned", "readout", "averaged"]


@dataclass(frozen=True)
class FeedbackRule:
    """One rule.

    broadcast: `error`, the global error e; `sign`, its sign; `target`, minus the one-hot class,
        which is known before the head has run, so that no block waits for it; `derivative`, e
        with the derivative of what e is the gradient of (layer/tangents.py).
    matrix: B_i is `random`, drawn once and fixed; `identity`; `learned`, drawn once and then
        trained from the error and the layer's output; `readout`, trained as the weights of a
        classifier that reads the layer's output, whose own error it projects; or `averaged`, the
        running average of estimates of the layer's Jacobian.
    source: the paper.
    """

    broadcast: Broadcast
    matrix: Matrix
    source: str

    @property
    def sends_error(self) -> bool:
        """Return whether blocks get e itself."""
        return self.broadcast in ("error", "derivative")

    @property
    def matrix_changes(self) -> bool:
        """Return whether training changes B_i."""
        return self.matrix in ("learned", "readout", "averaged")


FEEDBACK_RULES: Mapping[FeedbackKind, FeedbackRule] = {
    "random": FeedbackRule("error", "random", "DFA: Nøkland 2016, eq. 7; arXiv 2006.12878"),
    "identity": FeedbackRule("error", "identity", "B=I; arXiv 2501.17086, k=0"),
    "sign": FeedbackRule("sign", "random", "error-sign DFA: Frenkel 2021, eq. 6"),
    "target": FeedbackRule("target", "random", "DRTP: Frenkel 2021, eq. 9"),
    "learned": FeedbackRule("error", "learned", "DKP: Webster 2021, after Kolen and Pollack 1994"),
    "local": FeedbackRule(
        "target", "readout", "local errors: Nøkland and Eidnes 2019, arXiv 1901.06656, L_pred"
    ),
    "forward": FeedbackRule("derivative", "averaged", "FDFA: Bacho and Chu 2022, arXiv 2212.07282"),
}
