"""How the service talks with its child processes: frames of a JSON header and raw bytes."""

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

Header = dict[str, Any]

SIZES = struct.Struct("<II")
_PR_SET_PDEATHSIG = 1


def pack(header: Header, body: bytes = b"") -> bytes:
    """Return a frame: both sizes, the header, the body."""
    text = json.dumps(header).encode()
    return SIZES.pack(len(text), len(body)) + text + body


def read(stream: BinaryIO) -> tuple[Header, bytes] | None:
    """Read one frame; None when the other side is gone."""
    sizes = stream.read(SIZES.size)
    if len(sizes) < SIZES.size:
        return None
    header, body = SIZES.unpack(sizes)
    text, rest = stream.read(header), stream.read(body)
    return (json.loads(text), rest) if len(rest) == body else None


def as_child() -> tuple[BinaryIO, BinaryIO]:
    """Make this process a child that answers frames, and that dies with its parent.

    Returns the streams to read from and to write to; what is printed goes to the log instead.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdin.close()
    return requests, answers


def answer_one_by_one(answer: Callable[[Header, bytes], tuple[Header, bytes]]) -> None:
    """Answer each request in turn, until the parent is gone.

    An exception of `answer` is sent as {"error": its class, "message": its text}.
    """
    requests, answers = as_child()
    while (frame := read(requests)) is not None:
        header, body = frame
        try:
            found, result = answer(header, body)
        except Exception as error:  # noqa: BLE001
            found, result = {"error": type(error).__name__, "message": str(error)}, b""
        answers.write(pack({**found, "id": header["id"]}, result))
        answers.flush()
