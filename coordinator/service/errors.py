"""All errors that a client can see: name, gRPC status, public text.

docs/reference/service.md lists them, and a test compares that list with this file.
"""

from dataclasses import dataclass

import grpc


@dataclass(frozen=True)
class ErrorKind:
    """An error of CATALOGUE; `about` is its text in the documentation."""

    name: str
    status: grpc.StatusCode
    about: str


_CODE = grpc.StatusCode
MALFORMED = ErrorKind(
    "MALFORMED", _CODE.INVALID_ARGUMENT, "the bytes are not a message of this method"
)
BAD_REQUEST = ErrorKind("BAD_REQUEST", _CODE.INVALID_ARGUMENT, "a field has an invalid value")
BAD_JOB = ErrorKind(
    "BAD_JOB", _CODE.INVALID_ARGUMENT, "the job cannot run as given; the text says why"
)
NO_TOKEN = ErrorKind("NO_TOKEN", _CODE.UNAUTHENTICATED, "the call has no valid token")
NOT_ALLOWED = ErrorKind(
    "NOT_ALLOWED",
    _CODE.PERMISSION_DENIED,
    "a path outside the allowed folders, or what this user may not do",
)
NO_JOB = ErrorKind("NO_JOB", _CODE.NOT_FOUND, "there is no such job")
NO_CHECKPOINT = ErrorKind("NO_CHECKPOINT", _CODE.NOT_FOUND, "the job has no checkpoint yet")
REUSED = ErrorKind("REUSED", _CODE.ALREADY_EXISTS, "the request id belongs to another job")
WRONG_STATE = ErrorKind(
    "WRONG_STATE", _CODE.FAILED_PRECONDITION, "the job's state does not allow it"
)
NO_CODE = ErrorKind(
    "NO_CODE",
    _CODE.NOT_FOUND,
    "the caller has not uploaded this code, or no job needed it for long",
)
DAMAGED = ErrorKind("DAMAGED", _CODE.DATA_LOSS, "a checkpoint or uploaded code is damaged")
TOO_MUCH = ErrorKind("TOO_MUCH", _CODE.RESOURCE_EXHAUSTED, "a limit of the service is reached")
DISK_FULL = ErrorKind("DISK_FULL", _CODE.RESOURCE_EXHAUSTED, "the state folder cannot be written")
NO_CLUSTER = ErrorKind(
    "NO_CLUSTER", _CODE.UNAVAILABLE, "the Ray cluster does not answer; try again"
)
STOPPING = ErrorKind("STOPPING", _CODE.UNAVAILABLE, "the service is stopping; try again")
INTERNAL = ErrorKind("INTERNAL", _CODE.INTERNAL, "an error of the service; its log has the details")

CATALOGUE = (
    MALFORMED,
    BAD_REQUEST,
    BAD_JOB,
    NO_TOKEN,
    NOT_ALLOWED,
    NO_JOB,
    NO_CHECKPOINT,
    NO_CODE,
    REUSED,
    WRONG_STATE,
    DAMAGED,
    TOO_MUCH,
    DISK_FULL,
    NO_CLUSTER,
    STOPPING,
    INTERNAL,
)


class ServiceError(Exception):
    """An error that a client sees as `NAME: text`."""

    def __init__(self, kind: ErrorKind, text: str) -> None:
        super().__init__(f"{kind.name}: {plain(text)}")
        self.kind = kind


def plain(text: str) -> str:
    """Return a text as one line of at most 1000 printable characters, which fits a header."""
    visible = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(visible.split())[:1000]
