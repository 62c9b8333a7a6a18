"""The fenced blocks of a document, and the commands in a line of a shell."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

_FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.M | re.S)
_SAVED = re.compile(r"(?:Save|Write) this (?:as|into|to) `([\w./-]+)`")
_JOINS = ("&&", "||", "|", ";", "&")
_REDIRECTIONS = (">", ">>", "<")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class ShownBlock:
    """A fenced block.

    line: of its code in the document, from 1.
    saved_as: the file in which the sentence before it says to save it, or empty.
    """

    language: str
    code: str
    line: int
    saved_as: str


def shown_blocks(path: Path) -> list[ShownBlock]:
    """Return a document's fenced blocks that name a language, in their order."""
    text, found, end = path.read_text(encoding="utf-8"), list[ShownBlock](), 0
    for match in _FENCE.finditer(text):
        saved = _SAVED.findall(text[end : match.start()].rpartition("\n#")[2])
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(ShownBlock(match[2], dedent(match[3]), line, saved[-1] if saved else ""))
        end = match.end()
    return found


def in_line(line: str) -> Iterator[list[str]]:
    """Yield the words of each command in a line, without assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if skip:
            skip = False
        elif word in _JOINS:
            if words:
                yield words
            words = []
        elif word in _REDIRECTIONS:
            skip = True
        elif words or not _ASSIGNMENT.match(word):
            words.append(word)
