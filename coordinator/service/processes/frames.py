"""The messages between the service and its child processes: a JSON header and raw bytes."""

import asyncio
import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

Header = dict[str, Any]
Frame = tuple[Header, bytes]

_SIZES = struct.Struct("<II")
_PR_SET_PDEATHSIG = 1


def pack(header: Header, body: bytes = b"") -> bytes:
    """Return a frame: both sizes, the header, the body."""
    text = json.dumps(header).encode()
    return _SIZES.pack(len(text), len(body)) + text + body


def read(stream: BinaryIO) -> Frame | None:
    """Read one frame; return None when the other side has ended."""
    sizes = stream.read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    header_size, body_size = _SIZES.unpack(sizes)
    text, body = stream.read(header_size), stream.read(body_size)
    return (json.loads(text), body) if len(body) == body_size else None


async def read_async(stream: asyncio.StreamReader) -> Frame | None:
    """Read one frame; return None when the other side has ended."""
    try:
        header_size, body_size = _SIZES.unpack(await stream.readexactly(_SIZES.size))
        header: Header = json.loads(await stream.readexactly(header_size))
        return header, await stream.readexactly(body_size)
    except asyncio.IncompleteReadError:
        return None


def failure(error: BaseException) -> Frame:
    """Return the answer that makes `Child.ask` raise ChildError."""
    return {"error": type(error).__name__, "message": str(error)}, b""


def end_with_parent() -> None:
    """Let the system kill this process as soon as its parent has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def as_child() -> tuple[BinaryIO, BinaryIO]:
    """Let this process end with its parent, and return its streams of requests and of answers.

    Printed text goes to the log from now on.
    """
    end_with_parent()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdin.close()
    return requests, answers


def answer_one_by_one(answer: Callable[[Header, bytes], Frame]) -> None:
    """Answer each request in turn until the parent ends; send an exception as a `failure`."""
    requests, answers = as_child()
    while (frame := read(requests)) is not None:
        header, body = frame
        try:
            found, result = answer(header, body)
        except Exception as error:  # noqa: BLE001
            found, result = failure(error)
        answers.write(pack({**found, "id": header["id"]}, result))
        answers.flush()
