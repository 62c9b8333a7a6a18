"""Objects of the user's code, pickled for the actors of one driver."""

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray import cloudpickle

from dfa_core.seeding import drawing_from


@dataclass(frozen=True)
class PickledPayload:
    """An object of the user's code, pickled by the driver, and where it finds modules and files.

    folders: of its modules. They are appended to a worker's path, so that a workers.py or
        coordinator.py in one of them does not replace ours.
    working_dir: where its relative paths start; empty: wherever the actor is.
    """

    pickled: bytes
    folders: tuple[str, ...]
    working_dir: str = ""

    @classmethod
    def pack(
        cls, thing: Any, folders: Sequence[str] = (), working_dir: str = ""
    ) -> "PickledPayload":
        """Pickle an object in the driver, for its own actors."""
        return cls(cloudpickle.dumps(thing), tuple(folders), working_dir)

    def unpack(self) -> Any:
        """Unpickle it in an actor of the same driver, and run this actor in its folder from now on.

        Another machine may lack that folder. Modules that this imports may draw.
        """
        sys.path.extend(f for f in self.folders if f not in sys.path)
        if self.working_dir:
            with contextlib.suppress(OSError):
                os.chdir(self.working_dir)
        with drawing_from(0):
            return cloudpickle.loads(self.pickled)
