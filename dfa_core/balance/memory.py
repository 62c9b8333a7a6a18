"""How much memory each block needs at least, estimated before any worker builds a layer.

Weights, gradients and optimizer state, and the inputs and outputs of layers for every microbatch
that waits for its error. What autograd keeps inside a layer comes on top; it is not known
beforehand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dfa_core.balance.profiling import ModelProfile
from dfa_core.optimizer import state_per_weight
from dfa_core.rule import LearningRule
from dfa_core.schedule import in_flight


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one block: what it keeps all the time, and the activations that wait."""

    kept: float
    activations: float

    @property
    def bytes(self) -> float:
        """Return the sum of both."""
        return self.kept + self.activations


def memory_needs(
    profile: ModelProfile,
    ranges: Sequence[tuple[int, int]],
    rule: LearningRule,
    samples: int,
    microbatches: int,
    with_head: bool = False,
    recompute: bool = False,
    waiting: Sequence[int] | None = None,
) -> list[MemoryNeed]:
    """Return what each block needs at least.

    ranges: each block's layers (first, last + 1). samples: of a microbatch. microbatches: those of
    one replica, whatever the rule says of the whole batch. with_head: the last block has the head,
    and one microbatch's output of it, with its gradient. recompute: blocks keep the inputs alone of
    what waits (block/recomputing_block.py). waiting: microbatches that wait at each block, where
    the schedule is not that of schedule.py.
    """
    same = in_flight(len(ranges), microbatches, rule.staleness)
    waits = [same] * len(ranges) if waiting is None else waiting
    needs = []
    for (first, last), microbatches_kept in zip(ranges, waits, strict=True):
        hosted = profile.layers[first:last]
        parameters, trained = (sum(x.parameters for x in hosted), sum(x.trained for x in hosted))
        weights = _kept(parameters, trained, rule)
        weights += _kept_matrices(sum(x.matrices for x in hosted), rule)
        passed = sum(spec.bytes for spec in profile.between[first : last + 1])
        kept = microbatches_kept * (profile.between[first].bytes if recompute else passed)
        if recompute:  # and the largest layer's input and output
            pairs = pairwise(profile.between[first : last + 1])
            kept += max(a.bytes + b.bytes for a, b in pairs)
        needs.append(MemoryNeed(weights, kept * samples))
    if with_head:
        end, head = needs[-1], head_need(profile, rule, samples)
        needs[-1] = MemoryNeed(end.kept + head.kept, end.activations + head.activations)
    return needs


def head_need(profile: ModelProfile, rule: LearningRule, samples: int) -> MemoryNeed:
    """Return what the head needs at least, with one microbatch's output and its gradient."""
    kept = _kept(profile.head_parameters, profile.head_trained, rule)
    return MemoryNeed(kept, 2 * profile.output.bytes * samples)


def _kept(parameters: int, trained: int, rule: LearningRule) -> float:
    """Return the bytes of weights; of those trained also gradients, averages, optimizer state."""
    averages = 1 if rule.ema else 0
    return 4 * (parameters + trained * (1 + averages + state_per_weight(rule.optimizer)))


def _kept_matrices(entries: int, rule: LearningRule) -> float:
    """Return the bytes of feedback matrices that change; a running average needs no optimizer."""
    averaged = rule.feedback.rule.matrix == "averaged"
    return 4 * entries * (2 + (0 if averaged else state_per_weight(rule.optimizer)))
