"""The state of one layer, or of the head, as one safetensors file: no pickle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch

from dfa_core import JobError, TrainingFailed
from dfa_core.trained import ScalarState, TensorState, TrainedModule
from workers.storage import Folder


class NonFiniteWeights(TrainingFailed):
    """A part's weights hold NaN or infinity: they are not worth keeping."""


@dataclass(frozen=True)
class StateFile:
    """A written file as the manifest names it: part, bytes, SHA-256."""

    part: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SavedParts:
    """The files of a checkpoint, by part, and the folder that they lie in."""

    folder: Folder
    files: Mapping[str, StateFile]

    def check(self) -> None:
        """Read every file. Raises JobError, naming the first that is not as it was written."""
        for part in self.files:
            self._bytes(part)

    def read(self, part: str) -> tuple[TensorState, ScalarState]:
        """Return a part's tensors and scalars. Raises JobError when it is not as it was written."""
        if part not in self.files:
            raise JobError(f"{self.folder}: holds no {part}")
        data = self._bytes(part)
        header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        scalars: ScalarState = json.loads(header.get("__metadata__", {}).get("scalars", "{}"))
        return safetensors.torch.load(data), scalars

    def _bytes(self, part: str) -> bytes:
        file = self.files[part]
        try:
            data = self.folder.read(file_name(part))
        except OSError as error:
            raise JobError(f"{self.folder}/{file_name(part)}: cannot be read: {error}") from error
        if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            raise JobError(
                f"{self.folder}/{file_name(part)}: is not what was written (size or SHA-256 differ)"
            )
        return data


def file_name(part: str) -> str:
    """Return the name of the file that holds a part's state."""
    return f"{part}.safetensors"


def write_state(part: TrainedModule, folder: Folder) -> StateFile:
    """Write a part's weights and optimizer state into the folder, down to the disk.

    Raises OSError when the disk does not take it, NonFiniteWeights when there is nothing to keep.
    """
    non_finite = part.first_non_finite()
    if non_finite is not None:
        raise NonFiniteWeights(f"{part.name}: {non_finite} is not finite")
    tensors, scalars = part.state()
    data = safetensors.torch.save(tensors, {"scalars": json.dumps(scalars)})
    folder.write(file_name(part.name), data)
    return StateFile(part.name, len(data), hashlib.sha256(data).hexdigest())
