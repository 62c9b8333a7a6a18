"""Tasks that are learned in a second."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from dfa_tasks import Splits, Task


def noisy_task() -> Task:
    """Few noisy samples, which a network learns by heart: the validation loss rises soon."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, 8, generator=generator)
    target = (x[:, 0] + 1.5 * torch.randn(240, generator=generator) > 0).long()
    one, two, three = (TensorDataset(x[i::3], target[i::3]) for i in range(3))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    return Task(net, nn.functional.cross_entropy, Splits(one, two, three), name="noisy")
