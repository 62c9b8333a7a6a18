"""Criteo's display advertising challenge: reads train.txt as a stream into arrays on disk."""

import json
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, partial
from hashlib import sha256
from math import log
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch.utils.data import TensorDataset

from dfa_core import JobError
from dfa_core.atomic_file import atomic_path
from dfa_tasks.download import cache_folder, find
from dfa_tasks.recommenders.fields import Vocabulary
from dfa_tasks.recommenders.rows import rows
from dfa_tasks.task import Splits

INTEGERS, CATEGORIES = 13, 26
FIELDS = tuple(
    [f"I{i}" for i in range(1, INTEGERS + 1)] + [f"C{i}" for i in range(1, CATEGORIES + 1)]
)
_BUCKETS = 1 << 20
_SPLITS = ("train", "validation", "test")

Row = tuple[int, list[str]]


def binned(value: str) -> str:
    """Return the category of an integer: floor(log(v)^2) for v above 2; empty stays empty.

    The winners of the challenge did so (3 Idiots, 2014), and so have most others since.
    """
    if not value:
        return ""
    number = int(value)
    return str(int(log(number) ** 2)) if number > 2 else f"={number}"


def parse(row: list[str]) -> Row:
    """Return the click and the categories of a row. Raises ValueError for an invalid number."""
    if row[0] not in ("0", "1"):
        raise ValueError(f"the click is '{row[0]}', not 0 or 1")
    integers = row[1 : 1 + INTEGERS]
    return int(row[0]), [binned(value) for value in integers] + row[1 + INTEGERS :]


class Criteo:
    """Clicks on advertisements with 39 fields; one tenth is for validation, one for testing.

    Categories that occur less than `threshold` times count as unknown. The encoded data is kept in
    the cache folder, at 4 bytes per field and row.
    """

    def __init__(self, data_dir: str, threshold: int = 10) -> None:
        """Raises JobError when there is no train.txt, and for a malformed line, with its number."""
        folder = find("criteo", ("train.txt",), data_dir)
        if folder is None:
            raise JobError(
                "criteo is not on this machine, and its terms must be accepted before a download: "
                "https://ailab.criteo.com/criteo-display-advertising-challenge-dataset/; then set "
                "the folder of its train.txt with --data-dir or ERRORCAST_DATA"
            )
        self._path, self._threshold = folder / "train.txt", threshold
        found = self._path.stat()
        named = f"{self._path.resolve()} {found.st_size} {found.st_mtime_ns} {threshold}"
        self._kept = cache_folder() / f"criteo-{sha256(named.encode()).hexdigest()[:16]}"
        if not self._kept.is_dir():
            self._prepare()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Return the fields and the categories that are frequent enough."""
        known = json.loads((self._kept / "vocabulary.json").read_text(encoding="utf-8"))
        return Vocabulary({field: tuple(categories) for field, categories in known.items()})

    def splits(self) -> Splits:
        """Return (ids of each field, click) pairs, mapped from disk."""
        splits = {}
        for split in _SPLITS:
            arrays = (np.load(self._kept / f"{split}-{n}.npy", mmap_mode="c") for n in ("x", "y"))
            splits[split] = TensorDataset(*map(torch.from_numpy, arrays))
        return Splits(**splits)

    def _rows(self) -> Iterator[Row]:
        return rows(self._path, 1 + len(FIELDS), parse, least=2 + INTEGERS)

    def _prepare(self) -> None:
        try:
            with atomic_path(self._kept) as unfinished:
                unfinished.mkdir(parents=True, exist_ok=True)
                vocabulary, samples = self._count()
                known = json.dumps(vocabulary.known)
                (unfinished / "vocabulary.json").write_text(known, encoding="utf-8")
                self._encode(vocabulary, samples, unfinished)
        except OSError as error:
            if not self._kept.is_dir():  # otherwise another process was faster
                raise JobError(f"{self._kept} cannot be written: {error}") from error

    def _count(self) -> tuple[Vocabulary, int]:
        """Count every category, in bounded memory.

        The first pass counts hash buckets of categories. The second pass counts only categories in
        buckets that reach the threshold, since no others can be frequent.
        """
        buckets = np.zeros((len(FIELDS), _BUCKETS), dtype=np.uint32)
        samples = 0
        for _, categories in self._rows():
            samples += 1
            for field, category in enumerate(categories):
                buckets[field, _bucket(category)] += 1
        full = buckets >= self._threshold
        counts: list[Counter[str]] = [Counter() for _ in FIELDS]
        for _, categories in self._rows():
            for field, category in enumerate(categories):
                if category and full[field, _bucket(category)]:
                    counts[field][category] += 1
        enough = (
            [category for category, count in counter.items() if count >= self._threshold]
            for counter in counts
        )
        return Vocabulary.of(dict(zip(FIELDS, enough, strict=True))), samples

    def _encode(self, vocabulary: Vocabulary, samples: int, folder: Path) -> None:
        draws = np.random.Generator(np.random.PCG64(0)).integers(0, 10, samples, dtype=np.uint8)
        split_of = np.where(draws > 1, 0, 2 - draws)  # a draw of 0 is for testing, 1 for validation
        sizes = np.bincount(split_of, minlength=len(_SPLITS))
        make = partial(open_memmap, mode="w+")
        arrays = []
        for split, size in zip(_SPLITS, map(int, sizes), strict=True):
            if size == 0:
                raise JobError(f"{self._path}: {samples} rows are too few to split")
            x = make(folder / f"{split}-x.npy", dtype=np.int32, shape=(size, len(FIELDS)))
            y = make(folder / f"{split}-y.npy", dtype=np.float32, shape=(size,))
            arrays.append((x, y))
        filled = [0] * len(_SPLITS)
        for (click, categories), chosen in zip(self._rows(), map(int, split_of), strict=True):
            x, y = arrays[chosen]
            x[filled[chosen]], y[filled[chosen]] = vocabulary.encode(categories), click
            filled[chosen] += 1
        for pair in arrays:
            for array in pair:
                array.flush()


def _bucket(category: str) -> int:
    return crc32(category.encode()) % _BUCKETS
