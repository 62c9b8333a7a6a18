"""Your own task: errorcast train docs/examples/mytask.py:make_task."""

import torch
from errorcast import Splits, Task
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import TensorDataset


def data() -> Splits:
    """Return scikit-learn's breast cancer data: is a tumour benign?"""
    arrays = load_breast_cancer(return_X_y=True)
    x, target = (torch.from_numpy(array) for array in arrays)
    x = ((x - x.mean(0)) / x.std(0)).float()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[100:], order[:100]
    return Splits(
        train=TensorDataset(x[train], target[train]),
        test=TensorDataset(x[test], target[test]),
    )


def make_task(width: int = 64) -> Task:
    """Return two tanh layers and a head; options.width sets the argument."""
    return Task(
        model=nn.Sequential(
            nn.Linear(30, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 2),
        ),
        loss=nn.functional.cross_entropy,
        data=data,
        defaults={
            "batch_size": 32,
            "epochs": 20,
            "optimizer": {"name": "adam", "lr": 1e-3},
        },
    )
