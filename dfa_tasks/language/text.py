"""Text files, and the tokenizers that turn text into tokens and back."""

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
        """Return the text of the tokens."""

    def to_json(self) -> str:
        """Return the tokenizer as JSON, for load_tokenizer()."""


class Characters:
    """A tokenizer with one token per character."""

    def __init__(self, known: str) -> None:
        self._known = known
        self._number = {character: number for number, character in enumerate(known)}

    @classmethod
    def of(cls, lines: Iterable[str]) -> "Characters":
        """Make a tokenizer of the characters in a text, in Unicode order."""
        return cls("".join(sorted(set().union(*lines))))

    @property
    def size(self) -> int:
        """Return the number of known characters."""
        return len(self._known)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. Raises JobError for an unknown character."""
        try:
            return [self._number[character] for character in text]
        except KeyError as error:
            raise JobError(f"the model does not know the character {error}") from error

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of the tokens."""
        return "".join(self._known[token] for token in tokens)

    def to_json(self) -> str:
        """Return the tokenizer as JSON."""
        return json.dumps({"characters": self._known})


class BytePairs:
    """Byte-pair encoding (Sennrich 2016) of bytes, with the tokenizers library."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    @classmethod
    def of(cls, lines: Iterator[str], size: int) -> "BytePairs":
        """Learn at most `size` tokens from the lines of a text."""
        from tokenizers import Tokenizer as Encoding  # noqa: PLC0415
        from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: PLC0415

        encoding = Encoding(models.BPE())
        encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        encoding.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=alphabet, show_progress=False
        )
        encoding.train_from_iterator(lines, trainer)
        return cls(encoding)

    @property
    def size(self) -> int:
        """Return the size of the vocabulary."""
        return int(self._encoding.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        found: list[int] = self._encoding.encode(text).ids
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of the tokens; invalid UTF-8 becomes a replacement character."""
        return str(self._encoding.decode(list(tokens)))

    def to_json(self) -> str:
        """Return the tokenizer as JSON."""
        return str(self._encoding.to_str())


def load_tokenizer(text: str) -> Tokenizer:
    """Return the tokenizer that to_json() has written. Raises JobError for another text."""
    try:
        found = json.loads(text)
        if "characters" in found:
            return Characters(found["characters"])
        from tokenizers import Tokenizer as Encoding  # noqa: PLC0415

        return BytePairs(Encoding.from_str(text))
    except Exception as error:  # the library raises plain Exception
        raise JobError(f"this is not a tokenizer: {error}") from error


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text, with their line ends.

    Raises JobError for a line that is not UTF-8, with its number, and for an empty file.
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
