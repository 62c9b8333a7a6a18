"""Reads CIFAR-10's binary version (Krizhevsky 2009): six files of records in one archive.

A record is the class, one byte, and then 3 x 32 x 32 bytes: the red, green and blue planes.
"""

import hashlib
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch.utils.data import TensorDataset

from dfa_core import JobError
from dfa_tasks.download import fetch
from dfa_tasks.task import Splits
from dfa_tasks.vision.datasets import Shape

_IMAGE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"{_FOLDER}/data_batch_{i}.bin" for i in range(1, 6))
_TEST = f"{_FOLDER}/test_batch.bin"

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class CifarArchive:
    """The archive.

    size, sha256: of the file, in bytes, and its checksum.
    means, spreads: mean and standard deviation of the pixels in [0, 1], for each colour.
    """

    size: int
    sha256: str
    means: tuple[float, float, float]
    spreads: tuple[float, float, float]
    name: str = "cifar10"
    file: str = "cifar-10-binary.tar.gz"
    homes: tuple[str, ...] = ("https://www.cs.toronto.edu/~kriz/",)

    def fetch(self, data_dir: str) -> None:
        """Download the archive if it is missing."""
        fetch(self.name, [self.file], self.homes, data_dir)

    def load(self, data_dir: str, shape: Shape) -> Splits:
        """Read the archive: images (n, 3, 32, 32), flat (n, 3072), and classes (n,).

        Raises JobError if it is missing, truncated or changed.
        """
        path = fetch(self.name, [self.file], self.homes, data_dir) / self.file
        train, test = self._records(path)
        return Splits(self._dataset(train, shape), self._dataset(test, shape))

    def _records(self, path: Path) -> tuple[Bytes, Bytes]:
        """Return the records for training and for testing, (n, 3073)."""
        again = "delete it to download it again"
        try:
            archive = path.read_bytes()
        except OSError as error:
            raise JobError(f"{path}: cannot be read ({error}); {again}") from error
        if len(archive) < self.size:
            raise JobError(
                f"{path}: has {len(archive):,} of {self.size:,} bytes: it is truncated; {again}"
            )
        found = hashlib.sha256(archive).hexdigest()
        if found != self.sha256:
            raise JobError(
                f"{path}: wrong checksum (SHA-256 is {found}, should be {self.sha256}); {again}"
            )
        with tarfile.open(fileobj=BytesIO(archive)) as opened:
            train = np.concatenate([_file(opened, name) for name in _TRAIN])
            return train, _file(opened, _TEST)

    def _dataset(self, records: Bytes, shape: Shape) -> TensorDataset:
        pixels = torch.from_numpy(records[:, 1:].astype(np.float32)).view(-1, *_IMAGE).div_(255)
        means, spreads = (torch.tensor(of).view(3, 1, 1) for of in (self.means, self.spreads))
        pixels.sub_(means).div_(spreads)
        classes = torch.from_numpy(records[:, 0].astype(np.int64))
        return TensorDataset(pixels.flatten(1) if shape == "flat" else pixels, classes)


def _file(archive: tarfile.TarFile, name: str) -> Bytes:
    """Return the records of one file, (n, 3073). Its checksum says that they are there."""
    opened = cast(IO[bytes], archive.extractfile(name))  # None would be a folder
    return np.frombuffer(opened.read(), np.uint8).reshape(-1, _RECORD)


CIFAR10 = CifarArchive(
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    means=(0.4914, 0.4822, 0.4465),
    spreads=(0.2470, 0.2435, 0.2616),
)
