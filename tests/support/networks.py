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


class Doubling(nn.Module):
    """Has no weights; writes into memory of its own, which no version counts."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.memory.shape != x.shape:
            self.memory = torch.empty_like(x)
        self.memory.data.copy_(2 * x)
        return self.memory


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


class Paths(nn.Module):
    """A hidden path, one that is added to the head's output, and the input, which goes along."""

    learns_by = ("feedback", "error")

    def __init__(self, before: int, after: int, outputs: int) -> None:
        super().__init__()
        self.hidden, self.added = nn.Linear(before, after), nn.Linear(before, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return torch.tanh(self.hidden(x)), self.added(x), x.reshape(len(x), 8, -1)


class Along(nn.Module):
    """A layer of the hidden path, which looks at the input too."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.hidden, self.dropout = nn.Linear(before + 64, after), nn.Dropout(0.1)

    def forward(self, h: Tensor, added: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        mixed = self.hidden(torch.cat([h, x.flatten(1)], dim=1))
        return torch.tanh(self.dropout(mixed)), added, x


class Added(nn.Module):
    """A head that adds what came along."""

    def __init__(self, before: int, outputs: int) -> None:
        super().__init__()
        self.map = nn.Linear(before, outputs)

    def forward(self, h: Tensor, added: Tensor, x: Tensor) -> Tensor:
        out: Tensor = self.map(h) + added + 0 * x.sum()
        return out


NETWORKS = {
    "mlp": Model(
        (dense(64, 33), dense(33, 48), dense(48, 17), dense(17, 20)), partial(nn.Linear, 20, 10)
    ),
    "norm-dropout": Model(
        (dense(64, 32), normed(32), normed(32), normed(32)),
        partial(stack, partial(nn.Dropout, 0.1), partial(nn.Linear, 32, 10)),
    ),
    "several-tensors": Model(
        (
            partial(Paths, 64, 32, 10),
            *(partial(Along, a, b) for a, b in ((32, 24), (24, 16), (16, 20))),
        ),
        partial(Added, 20, 10),
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
