"""The tasks of image classification: five networks on four data sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from dfa_core import Model
from dfa_tasks.task import Installed, Splits, Task, TaskMaker
from dfa_tasks.vision.cifar import CIFAR10
from dfa_tasks.vision.datasets import FASHION_MNIST, MNIST, Shape, load_digits_splits
from dfa_tasks.vision.models import convnet, mlp, residual_mlp
from dfa_tasks.vision.residual_images import residual_images
from dfa_tasks.vision.vision_transformer import vision_transformer

Network = Literal["mlp", "residual", "conv", "resnet", "vit"]
Settings = Mapping[str, Any]

_CLASSES = 10
_IDENTITY: Settings = {"feedback": {"kind": "identity"}}
_FORWARD: Settings = {"feedback": {"kind": "forward"}}
_DIGITS: Settings = {
    "optimizer": {"name": "adam", "lr": 1e-3},
    "microbatches": 4,
    "batch_size": 64,
    "epochs": 40,
}
_SMALL_SET: Mapping[Network, Settings] = {
    "mlp": _DIGITS,
    "residual": {**_DIGITS, **_IDENTITY},
    "conv": {**_DIGITS, **_FORWARD},
    "resnet": {**_DIGITS, **_IDENTITY},
    "vit": {**_DIGITS, **_IDENTITY},
}
_ADAM: Settings = {"name": "adam", "lr": 5e-4, "schedule": "cosine"}
_MUON: Settings = {"name": "muon", "lr": 4e-3, "schedule": "cosine"}
_FULL: Settings = {"optimizer": _ADAM, "microbatches": 4, "batch_size": 256}
_QUICK: Settings = {"optimizer": _MUON, "microbatches": 4, "batch_size": 128, "epochs": 2}
_FULL_SET: Mapping[Network, Settings] = {
    "mlp": {**_FULL, "epochs": 8},
    "residual": {**_FULL, **_IDENTITY, "epochs": 4, "optimizer": {**_ADAM, "lr": 1e-3}},
    "conv": {**_FULL, **_FORWARD, "epochs": 4},
    "resnet": {**_QUICK, **_IDENTITY},
    "vit": {**_QUICK, **_IDENTITY},
}


@dataclass(frozen=True)
class ImageSet:
    """A data set as the networks need it.

    channels, side: of an image.
    patch: side of the patches that a Transformer takes as tokens.
    defaults: fields of the job spec that suit each network on it.
    """

    title: str
    channels: int
    side: int
    patch: int
    load: Callable[[str, Shape], Splits]
    fetch: Callable[[str], None] | None
    defaults: Mapping[Network, Settings]

    @property
    def pixels(self) -> int:
        """Return how many numbers an image has."""
        return self.channels * self.side**2


IMAGE_SETS: Mapping[str, ImageSet] = {
    "digits": ImageSet(
        "scikit-learn's 8x8 digits (bundled)", 1, 8, 2, load_digits_splits, None, _SMALL_SET
    ),
    "mnist": ImageSet("MNIST", 1, 28, 7, MNIST.load, MNIST.fetch, _FULL_SET),
    "fashion-mnist": ImageSet(
        "Fashion-MNIST", 1, 28, 7, FASHION_MNIST.load, FASHION_MNIST.fetch, _FULL_SET
    ),
    "cifar10": ImageSet("CIFAR-10", 3, 32, 4, CIFAR10.load, CIFAR10.fetch, _FULL_SET),
}


def mlp_task(images: str, layers: int = 3, width: int = 1024, data_dir: str = "") -> Task:
    """Return a tanh MLP with random feedback, as in the paper."""
    data = IMAGE_SETS[images]
    model = mlp(data.pixels, _CLASSES, layers, width)
    return _task(data, "mlp", model, data_dir, shape="flat")


def residual_task(images: str, layers: int = 4, width: int = 256, data_dir: str = "") -> Task:
    """Return a pre-norm residual MLP with identity feedback from the head's input."""
    data = IMAGE_SETS[images]
    model = residual_mlp(data.pixels, _CLASSES, layers, width)
    return _task(data, "residual", model, data_dir, shape="flat", error_at="input")


def conv_task(images: str, width: int = 16, data_dir: str = "") -> Task:
    """Return a small convolutional network with forward-mode feedback (FDFA)."""
    data = IMAGE_SETS[images]
    model = convnet(data.channels, data.side, _CLASSES, width)
    return _task(data, "conv", model, data_dir)


def resnet_task(
    images: str,
    blocks: int = 6,
    width: int = 16,
    hidden: int = 48,
    points: int = 2,
    data_dir: str = "",
) -> Task:
    """Return a residual convolutional network with identity feedback from the head's input."""
    data = IMAGE_SETS[images]
    model = residual_images(data.channels, _CLASSES, blocks, width, hidden, points)
    return _task(data, "resnet", model, data_dir, error_at="input", sample_dims=3)


def vit_task(
    images: str,
    blocks: int = 4,
    width: int = 96,
    heads: int = 4,
    hidden: int = 192,
    patch: int = 0,
    points: int = 1,
    data_dir: str = "",
) -> Task:
    """Return a vision Transformer with identity feedback; patch: 0 is what suits the images."""
    data = IMAGE_SETS[images]
    patch = patch or data.patch
    model = vision_transformer(
        data.channels, data.side, _CLASSES, blocks, width, heads, hidden, patch, points
    )
    return _task(data, "vit", model, data_dir, error_at="input", sample_dims=2)


def _task(
    data: ImageSet,
    network: Network,
    model: Model,
    data_dir: str,
    shape: Shape = "image",
    error_at: Literal["output", "input"] = "output",
    sample_dims: int = 1,
) -> Task:
    return Task(
        model=model,
        loss=nn.functional.cross_entropy,
        data=partial(data.load, data_dir, shape),
        fetch=partial(data.fetch, data_dir) if data.fetch else None,
        error_at=error_at,
        sample_dims=sample_dims,
        defaults=data.defaults[network],
    )


_NETWORKS: tuple[tuple[str, TaskMaker, str], ...] = (
    ("", mlp_task, "tanh MLP, random feedback"),
    ("-residual", residual_task, "pre-norm residual MLP, identity feedback"),
    ("-conv", conv_task, "small convolutional network, forward-mode feedback"),
    ("-resnet", resnet_task, "residual convolutional network, identity feedback"),
    ("-vit", vit_task, "vision Transformer, identity feedback"),
)
_MAKERS: dict[str, TaskMaker] = {"digits": partial(mlp_task, width=256)}  # a smaller network
INSTALLED = {
    images + suffix: Installed(
        partial(_MAKERS.get(images + suffix, make), images), f"{data.title}: {about}"
    )
    for images, data in IMAGE_SETS.items()
    for suffix, make, about in _NETWORKS
}
