"""The image data sets: digits (bundled with scikit-learn), MNIST and Fashion-MNIST."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import TensorDataset

from dfa_tasks.download import fetch
from dfa_tasks.task import Splits
from dfa_tasks.vision.idx import read_idx

Shape = Literal["flat", "image"]


@dataclass(frozen=True)
class IdxData:
    """A data set of four IDX files.

    digests: file name -> SHA-256 of the uncompressed content, in the order train images, train
        labels, test images, test labels.
    mean, spread: mean and standard deviation of the pixels in [0, 1].
    """

    name: str
    homes: tuple[str, ...]
    digests: Mapping[str, str]
    mean: float
    spread: float

    def files(self) -> list[str]:
        """Return the names of the four files."""
        return [f"{name}.gz" for name in self.digests]

    def fetch(self, data_dir: str) -> None:
        """Download the missing files."""
        fetch(self.name, self.files(), self.homes, data_dir)

    def load(self, data_dir: str, shape: Shape) -> Splits:
        """Read the four files. Raises JobError for missing, truncated or changed ones."""
        folder = fetch(self.name, self.files(), self.homes, data_dir)
        digests = self.digests.values()
        images, labels, test_images, test_labels = (
            read_idx(folder / name, digest)
            for name, digest in zip(self.files(), digests, strict=True)
        )
        return Splits(
            self._dataset(images, labels, shape), self._dataset(test_images, test_labels, shape)
        )

    def _dataset(
        self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], shape: Shape
    ) -> TensorDataset:
        pixels = (torch.from_numpy(images.astype(np.float32)) / 255 - self.mean) / self.spread
        x = pixels.flatten(1) if shape == "flat" else pixels.unsqueeze(1)
        return TensorDataset(x, torch.from_numpy(labels.astype(np.int64)))


MNIST = IdxData(
    name="mnist",
    homes=(
        "http://yann.lecun.com/exdb/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    digests={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    mean=0.1307,
    spread=0.3081,
)


FASHION_MNIST = IdxData(
    name="fashion-mnist",
    homes=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    digests={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    mean=0.2860,
    spread=0.3530,
)


def load_digits_splits(_data_dir: str, shape: Shape) -> Splits:
    """Return scikit-learn's bundled digits: 8x8 pixels, 1,437 to train and 360 to test."""
    # read as a file: to import scikit-learn takes a second, in each process
    table = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(table), delimiter=",", dtype=np.float32)
    pixels = torch.from_numpy(rows[:, :64]) / 8 - 1
    x = pixels if shape == "flat" else pixels.reshape(-1, 1, 8, 8)
    target = torch.from_numpy(rows[:, 64].astype(np.int64))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[360:], order[:360]
    return Splits(TensorDataset(x[train], target[train]), TensorDataset(x[test], target[test]))
