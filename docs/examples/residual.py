"""A residual network that is no nn.Sequential.

errorcast train docs/examples/residual.py:make_task
"""

import torch
from errorcast import Splits, Task
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        out: Tensor = x + self.second(self.first(x).relu())
        return out.relu()


class ResNet(nn.Module):
    """A stem, blocks, and a linear answer, as torchvision and timm build theirs."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.answer = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, 8, 8) -> (n, 10)."""
        h = self.blocks(self.stem(x).relu())
        out: Tensor = self.answer(h.mean(dim=(2, 3)))
        return out


def layers_of(net: ResNet) -> list[nn.Module]:
    """Return the layers in forward order, and last the head; in a row they compute net(x)."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.answer)
    return [nn.Sequential(net.stem, nn.ReLU()), *net.blocks, head]


def data() -> Splits:
    """Return scikit-learn's digits, 8 x 8 pixels."""
    x, target = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    images = (x / 16).float().view(-1, 1, 8, 8)
    return Splits(
        TensorDataset(images[:1437], target[:1437]), TensorDataset(images[1437:], target[1437:])
    )


def make_task(channels: int = 16, blocks: int = 3) -> Task:
    """Return the network, cut at its blocks."""
    return Task(
        model=ResNet(channels, blocks),
        layers_of=layers_of,
        loss=nn.functional.cross_entropy,
        data=data,
        error_at="input",  # of the head: as wide as the blocks, so identity feedback fits
        defaults={
            "batch_size": 32,
            "epochs": 10,
            "optimizer": {"name": "adam", "lr": 2e-3},
            "feedback": {"kind": "identity"},
        },
    )
