"""Small networks that have every kind of layer whose bits could go astray."""

from functools import partial

import torch
from torch import Tensor, nn

from dfa_core import LearningRule, Model, OptimizerSpec

SAMPLES = 24

OPTIMIZERS = {
    "sgd": OptimizerSpec("SGD", 0.05, {"momentum": 0.9}),
    "adam": OptimizerSpec("adam", 2e-3, clip_norm=1.0, schedule="cosine", total_steps=20),
    "adamw": OptimizerSpec("AdamW", 2e-3, {"weight_decay": 0.1}, warmup_steps=3),
}


def stack(*factories: partial[nn.Module]) -> nn.Module:
    return nn.Sequential(*(factory() for factory in factories))


def dense(before: int, after: int) -> partial[nn.Module]:
    return partial(stack, partial(nn.Linear, before, after), partial(nn.Tanh))


def normed(width: int) -> partial[nn.Module]:
    parts = (
        partial(nn.Linear, width, width),
        partial(nn.LayerNorm, width),
        partial(nn.Dropout, 0.2),
    )
    return partial(stack, *parts)


def batch_normed(width: int) -> partial[nn.Module]:
    parts = (partial(nn.Linear, width, width), partial(nn.BatchNorm1d, width), partial(nn.ReLU))
    return partial(stack, *parts)


def conv(before: int, after: int) -> partial[nn.Module]:
    layers = (
        partial(nn.Conv2d, before, after, 3, padding=1),
        partial(nn.ReLU),
        partial(nn.AvgPool2d, 2),
    )
    return partial(stack, *layers)


NETWORKS = {
    "mlp": Model(
        (dense(64, 33), dense(33, 48), dense(48, 17), dense(17, 20)), partial(nn.Linear, 20, 10)
    ),
    "norm-dropout": Model(
        (dense(64, 32), normed(32), normed(32), normed(32)),
        partial(stack, partial(nn.Dropout, 0.1), partial(nn.Linear, 32, 10)),
    ),
    "batch-norm": Model(
        (dense(64, 32), batch_normed(32), normed(32), batch_normed(32)),
        partial(stack, partial(nn.BatchNorm1d, 32), partial(nn.Linear, 32, 10)),
    ),
    "conv": Model(
        (
            partial(stack, partial(nn.Unflatten, 1, (1, 8, 8)), conv(1, 6)),
            conv(6, 8),
            partial(stack, partial(nn.Flatten), dense(32, 24)),
            dense(24, 16),
        ),
        partial(nn.Linear, 16, 10),
    ),
}


class Noise:
    """A batch source of 480 samples: 20 steps an epoch, learnable by heart."""

    steps_per_epoch = 20

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step % self.steps_per_epoch)
        x = torch.randn(SAMPLES, 64, generator=generator)
        return x, torch.randint(0, 10, (SAMPLES,), generator=generator)


def rule(optimizer: str = "sgd", microbatches: int = 1, **more: object) -> LearningRule:
    return LearningRule(
        seed=7,
        microbatches=microbatches,
        optimizer=OPTIMIZERS[optimizer],
        **more,  # type: ignore[arg-type]
    )
