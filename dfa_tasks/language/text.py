"""Text files, and what turns them into tokens and back."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from dfa_core import JobError


class Tokenizer(Protocol):
    """Turns text into numbers below `size`, and back."""

    @property
    def size(self) -> int:
        """Return the size of the vocabulary."""

    def encode(self, text: str) -> Sequence[int]:
        """Return the tokens of a text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""

    def to_json(self) -> str:
        """Return all of it, for load_tokenizer()."""


class Characters:
    """A token a character."""

    def __init__(self, known: str) -> None:
        self._known = known
        self._number = {character: number for number, character in enumerate(known)}

    @classmethod
    def of(cls, lines: Iterable[str]) -> "Characters":
        """Return the characters that occur, in their order in Unicode."""
        return cls("".join(sorted(set().union(*lines))))

    @property
    def size(self) -> int:
        """Return how many characters are known."""
        return len(self._known)

    def encode(self, text: str) -> list[int]:
        """Raises JobError for an unknown character."""
        try:
            return [self._number[character] for character in text]
        except KeyError as error:
            raise JobError(f"the model does not know the character {error}") from error

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return "".join(self._known[token] for token in tokens)

    def to_json(self) -> str:
        """Return all of it."""
        return json.dumps({"characters": self._known})


class BytePairs:
    """Byte-pair encoding (Sennrich 2016) of bytes, by the tokenizers library."""

    def __init__(self, made: Any) -> None:
        self._made = made

    @classmethod
    def of(cls, lines: Iterator[str], size: int) -> "BytePairs":
        """Learn at most `size` tokens from a text."""
        from tokenizers import Tokenizer as Made  # noqa: PLC0415
        from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: PLC0415

        made = Made(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator(lines, trainer)
        return cls(made)

    @property
    def size(self) -> int:
        """Return how many tokens there are."""
        return int(self._made.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        found: list[int] = self._made.encode(text).ids
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; bytes that are no UTF-8 become a replacement character."""
        return str(self._made.decode(list(tokens)))

    def to_json(self) -> str:
        """Return all of it."""
        return str(self._made.to_str())


def load_tokenizer(text: str) -> Tokenizer:
    """Return what to_json() wrote. Raises JobError for something else."""
    try:
        found = json.loads(text)
        if "characters" in found:
            return Characters(found["characters"])
        from tokenizers import Tokenizer as Made  # noqa: PLC0415

        return BytePairs(Made.from_str(text))
    except Exception as error:  # the library raises bare ones
        raise JobError(f"this is no tokenizer: {error}") from error


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text, with their ends.

    Raises JobError, with the line's number, for what is not UTF-8, and for an empty file.
    """
    number = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise JobError(f"{path}, line {number}: is not UTF-8: {error.reason}") from error
    if number == 0:
        raise JobError(f"{path}: is empty")
