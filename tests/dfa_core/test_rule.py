"""The local gradient is the rule of DFA: by hand, and by finite differences."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support.networks import NETWORKS, OPTIMIZERS, Noise, dense, rule
from torch import nn

from dfa_core import Block, FeedbackSpec, Head, LearningRule, Model, Reference, build_layers

LOSS = nn.functional.cross_entropy


def double(factory: partial[nn.Module]) -> partial[nn.Module]:
    return partial(_double, factory)


def _double(factory: partial[nn.Module]) -> nn.Module:
    return factory().double()


def test_gradient_by_hand_in_float64() -> None:
    model = Model((double(dense(12, 9)), double(dense(9, 7))), double(partial(nn.Linear, 7, 5)))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(6, 12, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 5, (6,), generator=generator)
    block, head = Block(build_layers(model, 0, 2, rule())), Head(model, LOSS, rule())
    _, error = head.error(block.forward(x, 0, 0), target, 0, 0)
    block.update(error, 0, 0)

    w = [layer.module[0].weight.detach().numpy() for layer in block.layers]
    b = [layer.module[0].bias.detach().numpy() for layer in block.layers]
    feedback = [
        layer.feedback[0].matrix(5, n, x).numpy()
        for layer, n in zip(block.layers, (9, 7), strict=True)
    ]
    h = x.numpy()
    for i in range(2):
        out = np.tanh(h @ w[i].T + b[i])
        delta = (error.numpy() @ feedback[i]) * (1 - out**2)
        got = block.layers[i].module[0]
        np.testing.assert_allclose(got.weight.grad.numpy(), delta.T @ h, rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(got.bias.grad.numpy(), delta.sum(0), rtol=1e-12, atol=1e-18)
        h = out
    logits = h @ head.module.weight.detach().numpy().T + head.module.bias.detach().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    exact = (shares - np.eye(5)[target.numpy()]) / 6
    np.testing.assert_allclose(error.numpy(), exact, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(head.module.weight.grad.numpy(), exact.T @ h, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_gradient_by_finite_differences_through_the_frozen_projection(network: str) -> None:
    """The local gradient is that of <h_i, e·B_i> with e·B_i held fixed."""
    source = NETWORKS[network]
    model = Model(tuple(double(f) for f in source.layers), double(source.head))  # type: ignore[arg-type]
    x, target = Noise().batch(0)
    block, head = Block(build_layers(model, 0, 4, rule())), Head(model, LOSS, rule())
    _, error = head.error(block.forward(x.double(), 0, 0), target, 0, 0)
    block.update(error, 0, 0)
    h = x.double()
    for layer in block.layers:
        weight = next(iter(layer.parameters.values()))
        fixed = layer.feedback[0].project(error, layer.module(h)).detach()
        flat, gradient = weight.data.view(-1), weight.grad.view(-1)
        for index in (0, len(flat) // 2, len(flat) - 1):
            sums = []
            for shift in (1e-6, -1e-6):
                flat[index] += shift
                sums.append(float((layer.module(h) * fixed).sum()))
                flat[index] -= shift
            numeric = (sums[0] - sums[1]) / 2e-6
            assert numeric == pytest.approx(float(gradient[index]), rel=1e-5, abs=1e-10)
        h = layer.module(h).detach()


def test_nothing_passes_between_layers() -> None:
    """A layer's update depends on its input and on e, not on the weights after it."""
    x, target = Noise().batch(0)
    gradients = []
    for zeroed in (False, True):
        layers = build_layers(NETWORKS["mlp"], 0, 4, rule())
        block, head = Block(layers), Head(NETWORKS["mlp"], LOSS, rule())
        _, error = head.error(block.forward(x, 0, 0), target, 0, 0)
        if zeroed:
            with torch.no_grad():
                for parameter in layers[3].parameters.values():
                    parameter.zero_()
        block.update(error, 0, 0)
        gradients.append([p.grad.clone() for p in layers[0].parameters.values()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_microbatches_add_up_to_the_batch() -> None:
    whole = Reference(NETWORKS["mlp"], LOSS, rule(microbatches=1))
    cut = Reference(NETWORKS["mlp"], LOSS, rule(microbatches=4))
    x, target = Noise().batch(0)
    losses = [r.add_gradients(0, x, target) for r in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for a, b in zip(whole.trained_modules(), cut.trained_modules(), strict=True):
        for p, q in zip(a.parameters.values(), b.parameters.values(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_block_equals_the_reference_bit_for_bit(network: str, optimizer: str) -> None:
    """The block's one call to autograd gives the bits of the reference's layer by layer."""
    model, r = NETWORKS[network], rule(optimizer, 2)
    reference = Reference(model, LOSS, r)
    block, head = Block(build_layers(model, 0, 4, r)), Head(model, LOSS, r)
    for step in range(5):
        x, target = Noise().batch(step)
        reference.train_step(step, x, target)
        for m, (x_m, target_m) in enumerate(zip(x.chunk(2), target.chunk(2), strict=True)):
            _, error = head.error(block.forward(x_m.clone(), step, m), target_m, step, m)
            block.update(error, step, m)
        block.step(step)
        head.apply_gradients(step)
    for ours, theirs in zip([*block.layers, head], reference.trained_modules(), strict=True):
        assert all(torch.equal(a, theirs.state()[0][k]) for k, a in ours.state()[0].items())


def test_shallow_trains_the_head_alone_and_bp_trains_everything() -> None:
    x, target = Noise().batch(0)
    for method, moves in (("shallow", False), ("bp", True), ("dfa", True)):
        reference = Reference(NETWORKS["mlp"], LOSS, rule(method=method))  # type: ignore[arg-type]
        before = [trained.state()[0] for trained in reference.trained_modules()]
        reference.train_step(0, x, target)
        after = [trained.state()[0] for trained in reference.trained_modules()]
        changed = [
            not torch.equal(b["weights/0.weight"], a["weights/0.weight"])
            for b, a in zip(before[:-1], after[:-1], strict=True)
        ]
        assert changed == [moves] * 4
        assert not torch.equal(before[-1]["weights/weight"], after[-1]["weights/weight"])


def test_bp_is_torchs_own_backward_pass() -> None:
    reference = Reference(NETWORKS["conv"], LOSS, rule(method="bp"))
    x, target = Noise().batch(0)
    reference.add_gradients(0, x, target)
    whole = nn.Sequential(*(trained.module for trained in reference.trained_modules()))
    exact = torch.autograd.grad(LOSS(whole(x), target), list(whole.parameters()))
    for parameter, gradient in zip(whole.parameters(), exact, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_error_at_the_heads_input_with_the_identity_is_backpropagation_for_the_last_layer() -> None:
    r = LearningRule(seed=1, feedback=FeedbackSpec(kind="identity"), error_at="input")
    model = Model((dense(64, 16), dense(16, 16)), partial(nn.Linear, 16, 10))
    x, target = Noise().batch(0)
    last = []
    for method in ("dfa", "bp"):
        reference = Reference(model, LOSS, replace(r, method=method))  # type: ignore[arg-type]
        reference.add_gradients(0, x, target)
        last.append([p.grad for p in reference.layers[1].parameters.values()])
    assert all(torch.equal(a, b) for a, b in zip(*last, strict=True))
