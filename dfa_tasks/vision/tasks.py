"""The tasks of image classification: three networks on three data sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from dfa_core import Model
from dfa_tasks.task import Installed, Splits, Task, TaskMaker
from dfa_tasks.vision.datasets import FASHION_MNIST, MNIST, Shape, load_digits_splits
from dfa_tasks.vision.models import convnet, mlp, residual_mlp


@dataclass(frozen=True)
class ImageSet:
    """A data set as the three networks need it, with default settings for each network."""

    name: str
    side: int
    load: Callable[[str, Shape], Splits]
    fetch: Callable[[str], None] | None
    defaults: Mapping[str, Any]
    conv_defaults: Mapping[str, Any]
    residual_defaults: Mapping[str, Any]


_FULL_SIZE: dict[str, Any] = {
    "optimizer": {"name": "adam", "lr": 5e-4, "schedule": "cosine"},
    "microbatches": 4,
    "batch_size": 256,
}
_DIGITS = ImageSet(
    name="digits",
    side=8,
    load=load_digits_splits,
    fetch=None,
    defaults={
        "optimizer": {"name": "adam", "lr": 1e-3},
        "microbatches": 4,
        "batch_size": 64,
        "epochs": 40,
    },
    conv_defaults={},
    residual_defaults={},
)
_IDX = [
    ImageSet(
        name=data.name,
        side=28,
        load=data.load,
        fetch=data.fetch,
        defaults={**_FULL_SIZE, "epochs": 8},
        conv_defaults={"epochs": 4},
        residual_defaults={"epochs": 4, "optimizer": {**_FULL_SIZE["optimizer"], "lr": 1e-3}},
    )
    for data in (MNIST, FASHION_MNIST)
]
IMAGE_SETS = {images.name: images for images in (_DIGITS, *_IDX)}


def mlp_task(images: str, layers: int = 3, width: int = 1024, data_dir: str = "") -> Task:
    """Return a tanh MLP with random feedback, as in the paper."""
    data = IMAGE_SETS[images]
    return _task(data, mlp(data.side**2, 10, layers, width), "flat", data_dir, data.defaults)


def residual_task(images: str, layers: int = 4, width: int = 256, data_dir: str = "") -> Task:
    """Return a pre-norm residual MLP with identity feedback from the head's input."""
    data = IMAGE_SETS[images]
    model = residual_mlp(data.side**2, 10, layers, width)
    defaults = {**data.defaults, **data.residual_defaults, "feedback": {"kind": "identity"}}
    return _task(data, model, "flat", data_dir, defaults, error_at="input")


def conv_task(images: str, width: int = 16, data_dir: str = "") -> Task:
    """Return a small convolutional network with random feedback (DFA trains MLPs better)."""
    data = IMAGE_SETS[images]
    model = convnet(1, data.side, 10, width)
    return _task(data, model, "image", data_dir, {**data.defaults, **data.conv_defaults})


def _task(
    data: ImageSet,
    model: Model,
    shape: Shape,
    data_dir: str,
    defaults: Mapping[str, Any],
    error_at: Literal["output", "input"] = "output",
) -> Task:
    return Task(
        model=model,
        loss=nn.functional.cross_entropy,
        data=partial(data.load, data_dir, shape),
        fetch=partial(data.fetch, data_dir) if data.fetch else None,
        error_at=error_at,
        defaults=defaults,
    )


_TITLES = {
    "digits": "scikit-learn's 8x8 digits (bundled)",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
}
_NETWORKS: tuple[tuple[str, TaskMaker, str], ...] = (
    ("", mlp_task, "tanh MLP, random feedback"),
    ("-residual", residual_task, "pre-norm residual MLP, identity feedback"),
    ("-conv", conv_task, "small convolutional network, random feedback (DFA trains it worse)"),
)
_MAKERS: dict[str, TaskMaker] = {"digits": partial(mlp_task, width=256)}  # a smaller network
INSTALLED = {
    images + suffix: Installed(
        partial(_MAKERS.get(images + suffix, make), images), f"{_TITLES[images]}: {about}"
    )
    for images in IMAGE_SETS
    for suffix, make, about in _NETWORKS
}
