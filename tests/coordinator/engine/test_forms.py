"""Samples of another form: fine in an evaluation, named in training, never read as raw bytes."""

from functools import partial
from typing import Any

import pytest
import torch
from support.networks import Noise, conv, dense, rule, stack
from support.pipelines import LOSS, train
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.pipeline import Pipeline
from coordinator.engine.plan import make_plan
from coordinator.job.user_code import own_folders
from dfa_core import Head, JobError, Model, Reference, TensorSpec
from dfa_core.balance.trial import Trial
from workers.payload import PickledPayload
from workers.placement import Worker

BATCH, SIZE = 16, 8


def images(samples: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 1, size, size, generator=generator)
    return x, torch.randint(0, 10, (samples,), generator=generator)


class Images(Noise):
    """Batches of one size, but from some step on of another."""

    def __init__(self, size: int = SIZE, at: int | None = None) -> None:
        self.size, self.at = size, at

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        size = self.size + (self.at is not None and step >= self.at)
        return images(BATCH, size, step)


class FailsAt(nn.Module):
    """Raises an error that no library raises, in its n-th call in training."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.map, self.call, self.calls = nn.Linear(24, 24), call, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        if self.calls >= self.call:
            raise KeyError("lost")
        return torch.tanh(self.map(x))


class GrowsAt(FailsAt):
    """Returns another width from its n-th call in training on."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        h = torch.tanh(self.map(x))
        return h if self.calls < self.call else torch.cat([h, h], dim=1)


def network(third: Any = None) -> Model:
    """Takes images of any size: what passes between its layers differs with it."""
    pooled = partial(stack, partial(nn.AdaptiveAvgPool2d, 2), partial(nn.Flatten), dense(32, 24))
    layers = (conv(1, 6), conv(6, 8), pooled, third or dense(24, 24))
    return Model(layers, partial(nn.Linear, 24, 10))


def pipeline(
    workers: list[Worker], model: Model, source: Images, blocks: int, *tried: Tensor
) -> Pipeline:
    r = rule("adam", 2)
    form = TensorSpec.of(source.batch(0)[0])
    trials = [Trial("test", x[:4], torch.zeros(4), form) for x in tried]
    plan = make_plan(model, LOSS, r, source.batch(0), blocks, trials=trials)
    prefetcher, head = Prefetcher(source, BATCH, 2), Head(model, LOSS, r)
    packed = PickledPayload.pack(model, own_folders())
    return Pipeline(workers[:blocks], plan, packed, head, prefetcher, timeout_s=30)


@pytest.mark.parametrize(("trained", "tested"), [(8, 12), (12, 8)])
def test_images_of_another_size_are_evaluated_as_by_the_reference(
    four_workers: list[Worker], trained: int, tested: int
) -> None:
    source, model = Images(trained), network()
    reference = Reference(model, LOSS, rule("adam", 2))
    expected = [reference.train_step(step, *source.batch(step)) for step in range(4)]
    x, target = images(50, tested, 99)
    wide, _ = images(8, tested + 1, 99)
    for blocks in (1, 2, 4):
        engine = pipeline(four_workers, model, source, blocks, x)
        try:
            engine.start(None)
            losses = train(engine, 0, 2)
            list(engine.outputs(TensorDataset(x, target), 16))  # and training goes on after it
            losses += train(engine, 2, 4)
            outputs = [output for output, _ in engine.outputs(TensorDataset(x, target), 16)]
            with pytest.raises(JobError, match=rf"\(1, {tested + 1}, .*must keep their form"):
                list(engine.outputs(TensorDataset(wide, target[:8]), 4))
        finally:
            engine.close()
        assert losses == expected
        parts = [reference.evaluate(part.clone()) for part in x.split(16)]
        assert torch.equal(torch.cat(outputs), torch.cat(parts))


def test_inputs_of_another_dtype_are_evaluated(four_workers: list[Worker]) -> None:
    class Words(Images):
        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            generator = torch.Generator().manual_seed(step)
            x = torch.randint(0, 50, (BATCH, 6), generator=generator)
            return x, x[:, 0] % 10

    embedded = partial(stack, partial(nn.Embedding, 50, 8), partial(nn.Flatten), dense(48, 24))
    model = Model((embedded, dense(24, 24)), partial(nn.Linear, 24, 10))
    reference = Reference(model, LOSS, rule("adam", 2))
    x, target = Words().batch(7)
    engine = pipeline(four_workers, model, Words(), 2, x.int())
    try:
        engine.start(None)
        ((output, _),) = engine.outputs(TensorDataset(x.int(), target), 16)
    finally:
        engine.close()
    assert torch.equal(output, reference.evaluate(x))


@pytest.mark.parametrize(
    ("model", "source", "message"),
    [
        (network(), Images(at=3), r"the training data of step 3 has inputs of \(1, 9, 9\) float32"),
        (
            network(partial(FailsAt, 7)),
            Images(),
            r"at step 3, layer 3 \(FailsAt\) fails on an input of \(8, 24\) float32: KeyError",
        ),
        (
            network(partial(GrowsAt, 7)),
            Images(),
            r"at step 3, layer 3 \(GrowsAt\) returned samples of \(48,\), but of \(24,\)",
        ),
    ],
)
def test_a_deterministic_fault_is_an_error_of_the_job_and_kills_no_worker(
    four_workers: list[Worker], model: Model, source: Images, message: str
) -> None:
    alive = [worker.process for worker in four_workers]
    engine, losses = pipeline(four_workers, model, source, 2), list[float]()
    try:
        engine.start(None)
        with pytest.raises(JobError, match=message):
            engine.train(0, 5, lambda _, loss: losses.append(loss))
        assert engine.start(None) == 0  # the same workers form a new group
    finally:
        engine.close()
    assert len(losses) <= 3
    assert [worker.process for worker in four_workers] == alive
