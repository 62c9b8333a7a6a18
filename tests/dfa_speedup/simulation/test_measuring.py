"""What layers cost by every feedback rule, and what travels beside backpropagation's peers."""

from typing import get_args

import pytest
from support.networks import NETWORKS, Noise, rule
from torch import nn

from dfa_core import FeedbackSpec, Head
from dfa_core.balance.profiling import profile
from dfa_core.feedback.rules import FeedbackKind
from dfa_core.layer import build_layers
from dfa_speedup.simulation.measuring import measure_costs

LOSS = nn.functional.cross_entropy
MODEL = NETWORKS["mlp"]


@pytest.mark.parametrize("kind", [k for k in get_args(FeedbackKind) if k != "identity"])
def test_layers_can_be_measured_by_every_rule(kind: FeedbackKind) -> None:
    """Feedback matrices that change are no weights of a backward pass."""
    r = rule(feedback=FeedbackSpec(kind))
    layers = build_layers(MODEL, 0, len(MODEL.layers), r)
    costs = measure_costs(layers, Head(MODEL, LOSS, r), *Noise().batch(0))
    for cost in costs.layers:
        assert min(cost.forward, cost.update, cost.backward, cost.weights) > 0


def test_peers_of_a_rule_that_sends_tangents_send_none() -> None:
    batch = Noise().batch(0)
    forward, random = (rule(feedback=FeedbackSpec(kind)) for kind in ("forward", "random"))
    with_tangents, plain = (profile(MODEL, LOSS, r, *batch) for r in (forward, random))
    assert [len(h.tensors) for h in with_tangents.between] == [1] + [2] * len(MODEL.layers)
    found = with_tangents.without_tangents(forward)
    assert found.between == plain.between
    assert found.error == plain.error
