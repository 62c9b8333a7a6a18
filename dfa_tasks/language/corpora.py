"""The texts: where they come from, and their tokens, made once and mapped from disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dfa_core import JobError
from dfa_core.atomic_file import atomic_path
from dfa_tasks.download import cache_folder, fetch
from dfa_tasks.language.text import BytePairs, Characters, Tokenizer, lines_of


@dataclass(frozen=True)
class Corpus:
    """A text.

    files: for training, validation and testing; or one, of which a tenth is for testing.
    vocabulary: number of tokens of the byte-pair encoding; 0 makes each character a token.
    """

    name: str
    files: tuple[str, ...]
    homes: tuple[str, ...]
    vocabulary: int = 0

    def folder(self, data_dir: str) -> Path:
        """Return the folder of the files; download those that are missing."""
        return fetch(self.name, self.files, self.homes, data_dir)


_SPLITS = {1: ("train",), 3: ("train", "validation", "test")}  # by the number of files


CORPORA: Mapping[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "tiny-shakespeare",
            ("input.txt",),
            ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
        ),
        Corpus("wikitext-2", ("train.txt", "valid.txt", "test.txt"), (), 8_000),
        Corpus("wikitext-103", ("train.txt", "valid.txt", "test.txt"), (), 32_000),
    )
}


class Chunks(Dataset[tuple[Tensor, Tensor]]):
    """Consecutive chunks of a text's tokens; the target is the same chunk one token later."""

    def __init__(self, tokens: "np.ndarray[Any, Any]", length: int, where: str) -> None:
        """where: name of the split, for errors. Raises JobError for a text shorter than a chunk."""
        self._tokens, self._length = tokens, length
        if len(tokens) <= length:
            raise JobError(f"{where}: {len(tokens)} tokens are too few for a chunk of {length}")

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle takes: of a mapped file its name, so that other processes map it."""
        tokens, name = self._tokens, getattr(self._tokens, "filename", None)
        file = Path(name) if name else None
        mapped = file is not None and file.stat().st_size == tokens.nbytes
        return {**self.__dict__, "_tokens": file if mapped else tokens}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self._tokens, Path):
            self._tokens = _mapped(self._tokens)

    def __len__(self) -> int:
        return (len(self._tokens) - 1) // self._length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self._length
        found = torch.from_numpy(self._tokens[start : start + self._length + 1].astype(np.int64))
        return found[:-1], found[1:]


@cache
def prepared(name: str, data_dir: str) -> tuple[str, dict[str, "np.ndarray[Any, Any]"]]:
    """Return the tokenizer, as JSON, and the tokens of each split, mapped from disk.

    The first call reads the files as a stream and stores both in the cache folder. A changed file
    is read again.
    """
    corpus = CORPORA[name]
    found = corpus.folder(data_dir)
    paths = [found / file for file in corpus.files]
    stats = [path.stat() for path in paths]
    named = [
        (str(p.resolve()), s.st_size, s.st_mtime_ns) for p, s in zip(paths, stats, strict=True)
    ]
    key = sha256(f"{named} {corpus.vocabulary}".encode()).hexdigest()[:16]
    folder = cache_folder() / f"{name}-{key}"
    if not folder.is_dir():
        _prepare(corpus, paths, folder)
    names = _SPLITS[3] if len(paths) == 3 else ("train", "test")
    splits = {name: _mapped(folder / f"{name}.tokens") for name in names}
    return (folder / "tokenizer.json").read_text(encoding="utf-8"), dict(splits)


def _mapped(path: Path) -> "np.ndarray[Any, Any]":
    return np.memmap(path, np.uint16, "r")


def _prepare(corpus: Corpus, paths: list[Path], folder: Path) -> None:
    """Write the tokenizer and the tokens of all splits, or nothing."""
    lines = lines_of(paths[0])
    tokenizer: Tokenizer = (
        BytePairs.of(lines, corpus.vocabulary) if corpus.vocabulary else Characters.of(lines)
    )
    try:
        with atomic_path(folder) as unfinished:
            unfinished.mkdir(parents=True, exist_ok=True)
            (unfinished / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
            for split, path in zip(_SPLITS[len(paths)], paths, strict=True):
                with (unfinished / f"{split}.tokens").open("wb") as file:
                    for line in lines_of(path):
                        file.write(np.array(tokenizer.encode(line), dtype=np.uint16).tobytes())
            if len(paths) == 1:
                _cut(unfinished)
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was faster
            raise JobError(f"{folder} cannot be written: {error}") from error


def _cut(folder: Path) -> None:
    """Keep nine tenths of the only file for training, and the last tenth for testing."""
    tokens = np.fromfile(folder / "train.tokens", np.uint16)
    cut = len(tokens) * 9 // 10
    tokens[cut:].tofile(folder / "test.tokens")
    tokens[:cut].tofile(folder / "train.tokens")
