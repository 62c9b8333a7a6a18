"""Adds a user to a users file, with a new token."""

import os
import secrets
from pathlib import Path

from coordinator.service.users import User, check_name, line_of, read_users
from dfa_core.atomic_file import write_atomically
from dfa_core.errors import JobError


def add_user(file: Path, user: User, token_file: Path) -> None:
    """Write a user's line into a users file, and a new token into a file of its own.

    Only the owner of these files can read them.

    Raises JobError for a name that is taken or is none, and for a file that cannot be written.
    """
    check_name(user.name)
    there = file.exists()
    if there and user.name in {known.name for known in read_users(file).values()}:
        raise JobError(f"{file}: has a user '{user.name}'; remove that line first")
    token = secrets.token_urlsafe(32)
    try:
        text = file.read_text(encoding="utf-8") if there else ""
        with open(  # noqa: PTH123
            os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as secret:
            secret.write(token + "\n")
        lines = f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}"
        write_atomically(file, f"{lines}{line_of(user, token)}\n".encode(), mode=0o600)
    except FileExistsError as error:
        raise JobError(f"{token_file}: exists already; name a new file") from error
    except OSError as error:
        raise JobError(f"{error.filename or file}: cannot be written: {error.strerror}") from error
