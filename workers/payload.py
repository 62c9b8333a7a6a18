"""Objects of the user's code, pickled for the actors of one driver."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray import cloudpickle


@dataclass(frozen=True)
class PickledPayload:
    """An object of the user's code, pickled by the driver, and the folders of its modules.

    The folders are appended to a worker's path, so that a workers.py or coordinator.py in one of
    them does not replace ours.
    """

    pickled: bytes
    folders: tuple[str, ...]

    @classmethod
    def pack(cls, thing: Any, folders: Sequence[str] = ()) -> "PickledPayload":
        """Pickle an object in the driver, for its own actors."""
        return cls(cloudpickle.dumps(thing), tuple(folders))

    def unpack(self) -> Any:
        """Unpickle it in an actor of the same driver."""
        sys.path.extend(f for f in self.folders if f not in sys.path)
        return cloudpickle.loads(self.pickled)
