"""The call that is being answered: whose it is, and which job it is about."""

from contextvars import ContextVar
from dataclasses import dataclass

from coordinator.service.users import ANYONE, User


@dataclass
class Call:
    """A call of a user; the method that answers it says which job, or which code, it is about."""

    user: User = ANYONE
    about: str = ""


CALL: ContextVar[Call] = ContextVar("call")  # each call is answered in a task of its own
