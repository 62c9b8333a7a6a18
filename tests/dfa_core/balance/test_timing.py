"""One warm-up, then the fastest of a few runs."""

from itertools import count

import pytest
from support.networks import NETWORKS, Noise, rule
from torch import nn

from dfa_core import Head, build_layers
from dfa_core.activations import detached
from dfa_core.balance import timing
from dfa_core.balance.timing import REPEATS, fastest, time_layer


def test_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs take 1, 4, 3, 2 seconds; the preparations between them take none of it."""
    lengths, now = iter([1.0, 4.0, 3.0, 2.0]), [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])

    def prepare() -> int:
        now[0] += 100
        return next(numbers)

    def work(number: int) -> None:
        seen.append(number)
        now[0] += next(lengths)

    numbers, seen = count(), list[int]()
    assert fastest(prepare, work) == 2
    assert seen == [*range(1 + REPEATS)]


def test_a_layer_is_timed_and_keeps_its_weights() -> None:
    model, (x, target) = NETWORKS["mlp"], Noise().batch(0)
    layers = build_layers(model, 0, len(model.layers), rule())
    inputs = [x]
    for layer in layers:
        inputs.append(detached(layer.forward(inputs[-1], 0, 0)))  # type: ignore[arg-type]
    _, error = Head(model, nn.functional.cross_entropy, rule()).error(inputs[-1], target, 0, 0)
    before = {name: p.detach().clone() for name, p in layers[0].parameters.items()}
    seconds = time_layer(layers[0], x, error)
    assert seconds.forward > 0
    assert seconds.update > 0
    assert seconds.total == seconds.forward + seconds.update
    for name, weight in before.items():
        assert layers[0].parameters[name].equal(weight)
