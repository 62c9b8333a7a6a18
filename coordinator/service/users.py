"""Who may do what: the users of a service, by the tokens that they show.

A line of a users file is a name, the SHA-256 of a token, and what this user may do:

    alice sha256:9f86d0...  upload workers=8
"""

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dfa_core.errors import JobError

OPERATOR = "admin"  # the user who shows the token of --token-file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_NO_HASH = "-" * 64
_WORKERS = re.compile(r"workers=([0-9]{1,6})")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class User:
    """Who calls, and what this user may do.

    admin: may change jobs of all users. upload: may upload code.
    workers: most workers of all this user's running jobs together; None does not limit them.
    """

    name: str
    admin: bool = False
    upload: bool = False
    workers: int | None = None

    def may_change(self, owner: str) -> bool:
        """Return whether this user may change a job of an owner."""
        return self.admin or self.name == owner


ANYONE = User("", admin=True, upload=True)  # where the service asks for no token


class Users:
    """All users of a service. A changed users file counts from the next call on."""

    def __init__(self, token: str | None = None, file: Path | None = None) -> None:
        """Read the users.

        token: of the user `admin`, who may do everything.
        file: the other users; without both there is one user, who shows no token.

        Raises JobError for a file that cannot be used.
        """
        self._admin = None if token is None else hash_of(token)
        self._file, self._seen, self._by_hash = file, (0, 0, 0), dict[str, User]()
        self._problem = ""  # why a changed file was not read
        if file is not None:
            self._seen = _version(file)
            self._by_hash = read_users(file)

    def bearing(self, authorization: bytes) -> User | None:
        """Return whose token an Authorization header bears; None for nobody's.

        Takes the same time whichever user it is, and for nobody's.
        """
        if self._admin is None and self._file is None:
            return ANYONE
        self._read_again()
        kind, _, token = authorization.partition(b" ")
        given = hash_of(token) if kind == b"Bearer" else _NO_HASH
        found = None
        users = dict(self._by_hash)
        if self._admin is not None:
            users[self._admin] = User(OPERATOR, admin=True, upload=True)
        for known, user in users.items():
            if hmac.compare_digest(known, given):
                found = user
        return found

    def limits(self) -> Mapping[str, int]:
        """Return the most workers of each user who has such a limit, by name."""
        self._read_again()
        return {u.name: u.workers for u in self._by_hash.values() if u.workers is not None}

    def _read_again(self) -> None:
        """Read a file that has changed; one that cannot be used changes nothing."""
        if self._file is None:
            return
        try:
            now = _version(self._file)
            if now != self._seen:
                self._seen = now
                self._by_hash = read_users(self._file)
                logger.info("%s was read again: %d users", self._file, len(self._by_hash))
                self._problem = ""
        except JobError as error:
            if str(error) != self._problem:
                logger.error("the users stay as they were: %s", error)
            self._problem = str(error)


def read_users(file: Path) -> dict[str, User]:
    """Return the users of a file by the hash of their token. Raises JobError, with the line."""
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"--users {file}: cannot be read: {error}") from error
    if mode & 0o027:
        raise JobError(f"--users {file}: others can read or change it; chmod 600 {file}")
    found: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            hashed, user = _user(words)
            if hashed in found or user.name in {known.name for known in found.values()}:
                raise JobError(f"the user or the token of '{user.name}' appears twice")
        except JobError as error:
            raise JobError(f"--users {file}, line {number}: {error}") from error
        found[hashed] = user
    return found


def _user(words: list[str]) -> tuple[str, User]:
    name, rest = words[0], words[1:]
    check_name(name)
    hashed = _HASH.fullmatch(rest[0]) if rest else None
    if hashed is None:
        raise JobError(f"after '{name}' comes sha256: and 64 digits; errorcast user makes lines")
    admin, upload, workers = False, False, None
    for word in rest[1:]:
        limit = _WORKERS.fullmatch(word)
        if word == "admin":
            admin = True
        elif word == "upload":
            upload = True
        elif limit is not None:
            workers = int(limit[1])
        else:
            raise JobError(f"'{word}' is not admin, upload or workers=N")
    return hashed[1], User(name, admin, upload or admin, workers)


def check_name(name: str) -> None:
    """Raise JobError for what cannot be a user's name."""
    if not _NAME.fullmatch(name):
        raise JobError(
            f"'{name[:80]}' is not a name: 1 to 64 of A-Z a-z 0-9 _ . @ -, a letter first"
        )
    if name == OPERATOR:
        raise JobError(f"'{name}' is the user of --token-file; choose another name")


def line_of(user: User, token: str) -> str:
    """Return a user's line of a users file."""
    may = [word for word, has in (("admin", user.admin), ("upload", user.upload)) if has]
    may += [] if user.workers is None else [f"workers={user.workers}"]
    return " ".join((user.name, f"sha256:{hash_of(token)}", *may))


def hash_of(token: str | bytes) -> str:
    """Return the SHA-256 of a token; tokens are made at random, so a fast hash hides them."""
    given = token.encode() if isinstance(token, str) else token
    return hashlib.sha256(given).hexdigest()


def _version(file: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(file)  # noqa: PTH116
    except OSError as error:
        raise JobError(f"--users {file}: cannot be read: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino
