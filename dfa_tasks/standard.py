"""The network for measurements of speed: equal layers, random data."""

from functools import partial

import torch
from torch import nn
from torch.utils.data import TensorDataset

from dfa_tasks.task import Installed, Splits, Task
from dfa_tasks.vision.models import mlp

CLASSES = 10


def standard_mlp(width: int = 1024, layers: int = 8) -> Task:
    """Return a tanh MLP of equal layers on random data, for `errorcast bench` and `plan`."""
    return Task(
        model=mlp(width, CLASSES, layers, width),
        loss=nn.functional.cross_entropy,
        data=partial(random_splits, width),
        defaults={
            "batch_size": 512,
            "microbatches": 4,
            "epochs": 1,
            "optimizer": {"name": "sgd", "lr": 1e-3},
        },
    )


def random_splits(width: int, samples: int = 4096) -> Splits:
    """Return normal inputs and random classes; a network can only memorise them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, width, generator=generator)
    target = torch.randint(0, CLASSES, (samples,), generator=generator)
    return Splits(TensorDataset(x, target), TensorDataset(x[:512], target[:512]))


INSTALLED = {
    "mlp": Installed(standard_mlp, "8 equal tanh layers on random data, for bench and plan"),
}
