"""Spells text in the characters that a terminal's encoding has: ± as +- where it knows ASCII."""

import codecs
import unicodedata
from collections.abc import Mapping

HANDLER = "errorcast"
_SPELLED: Mapping[str, str] = {
    "±": "+-",
    "×": "x",  # noqa: RUF001
    "·": "*",
    "…": "...",
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "–": "-",  # noqa: RUF001
    "—": "-",
    "‘": "'",  # noqa: RUF001
    "’": "'",  # noqa: RUF001
    "“": '"',
    "”": '"',
    "•": "*",
    "─": "-",
    "━": "-",
    "│": "|",
}


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    escaped = (c.encode("ascii", "backslashreplace").decode("ascii") for c in signs)
    spelled = (_SPELLED.get(sign, escape) for sign, escape in zip(signs, escaped, strict=True))
    return "".join(spelled), error.end


codecs.register_error(HANDLER, _spell)


def spelled(text: str, encoding: str) -> str:
    """Return a text of printable characters that the encoding has.

    Others become a similar spelling or their escape. So a job's name can neither end the program
    nor send a terminal a command. Line breaks stay as they are.
    """
    shown = "".join(map(_printable, text))
    return shown.encode(encoding, HANDLER).decode(encoding)


def _printable(sign: str) -> str:
    if sign == "\n":
        return sign
    if sign.isspace():
        return " "
    hidden = unicodedata.category(sign) in ("Cc", "Cf", "Cs")
    return sign.encode("unicode_escape").decode("ascii") if hidden else sign
