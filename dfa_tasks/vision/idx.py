"""Reads IDX files, the format of MNIST, with or without gzip."""

import gzip
import hashlib
import zlib
from math import prod
from pathlib import Path

import numpy as np

from dfa_core import JobError


def read_idx(
    path: Path, sha256: str | None = None
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the bytes as an array.

    sha256: expected checksum of the uncompressed content, so that a re-compressed copy passes.

    Raises JobError when the file is truncated, is not IDX, or has another checksum.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise JobError(
            f"{path}: cannot be read ({error}); delete it to download it again"
        ) from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise JobError(f"{path}: is not an IDX file of bytes; delete it to download it again")
    dimensions = data[3]
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4))
    if len(data) != header + prod(shape):
        raise JobError(
            f"{path}: has {len(data)} bytes, but its header announces {header + prod(shape)}: "
            f"it is truncated; delete it to download it again"
        )
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise JobError(
            f"{path}: wrong checksum (SHA-256 of the content is {found}, should be {sha256}); "
            f"delete it to download it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
