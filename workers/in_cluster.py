"""An object in the cluster's memory, for the calls of workers."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray

T = TypeVar("T")


@dataclass(frozen=True)
class InCluster(Generic[T]):
    """An object in the cluster's memory, which the call that is given it fetches itself.

    Ray fetches a plain reference before it starts the call, and before it starts any later call of
    the same caller. Over a slow link a worker would give no sign of life meanwhile.
    """

    reference: Any

    @classmethod
    def put(cls, thing: T) -> "InCluster[T]":
        """Put an object into the memory of this node."""
        return cls(ray.put(thing))

    def get(self) -> T:
        """Return the object; what is in shared memory must not be changed."""
        found: T = ray.get(self.reference)
        return found

    def again(self) -> "InCluster[T]":
        """Put it again. Ray would look for it also on a node that no longer answers."""
        return self.put(self.get())
