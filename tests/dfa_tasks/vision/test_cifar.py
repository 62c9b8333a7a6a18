"""CIFAR-10's archive: read as its authors describe it, and refused in one line if it is damaged."""

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dfa_core import JobError
from dfa_tasks.vision.cifar import CIFAR10, CifarArchive

FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
EACH = 4  # records in a file


def records() -> np.ndarray:
    """Six files of random records: class, then red, green and blue planes."""
    made = np.random.default_rng(0).integers(0, 256, (len(FILES), EACH, 3073), dtype=np.uint8)
    made[:, :, 0] %= 10
    return made


@pytest.fixture
def archive(tmp_path: Path) -> CifarArchive:
    """A small archive in the official form, in tmp_path."""
    path = tmp_path / CIFAR10.file
    with tarfile.open(path, "w:gz") as writing:
        for name, content in zip(FILES, records(), strict=True):
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = content.nbytes
            writing.addfile(entry, io.BytesIO(content.tobytes()))
    content = path.read_bytes()
    return replace(CIFAR10, size=len(content), sha256=hashlib.sha256(content).hexdigest(), homes=())


def test_records_become_normalised_images(archive: CifarArchive, tmp_path: Path) -> None:
    splits = archive.load(str(tmp_path), "image")
    x, target = splits.train.tensors
    assert x.shape == (5 * EACH, 3, 32, 32)
    made = records()
    assert target.tolist() == made[:5, :, 0].flatten().tolist()
    # the pixel in row 3, column 7 of the green plane of the third file's second image
    byte = made[2, 1, 1 + 1024 + 3 * 32 + 7]
    expected = (byte / 255 - CIFAR10.means[1]) / CIFAR10.spreads[1]
    assert float(x[2 * EACH + 1, 1, 3, 7]) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    flat = archive.load(str(tmp_path), "flat").test.tensors[0]
    assert torch.equal(flat.view(-1, 3, 32, 32), splits.test.tensors[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-100], "it is truncated; delete it to download it again"),
        (
            lambda content: content[:-1] + bytes([content[-1] ^ 1]),
            "wrong checksum .* download it again",
        ),
    ],
)
def test_a_damaged_archive_is_refused(
    archive: CifarArchive, tmp_path: Path, damage, message: str
) -> None:
    path = tmp_path / archive.file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(JobError, match=f"{path}: .*{message}"):
        archive.load(str(tmp_path), "image")


def test_a_missing_archive_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"has no cifar10; put cifar-10-binary.tar.gz into"):
        CIFAR10.load(str(tmp_path / "nowhere"), "image")
