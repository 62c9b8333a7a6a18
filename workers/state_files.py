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
    """The weights of a module hold NaN or infinity, so its state is not worth keeping."""


class DamagedFile(JobError):
    """A state file of a checkpoint is missing, or is not what was written."""


@dataclass(frozen=True)
class StateFile:
    """A written file: the module whose state it holds, its size in bytes, its SHA-256."""

    module: str
    bytes: int
    sha256: str

    def entry(self) -> dict[str, Any]:
        """Return the file's entry in a checkpoint's manifest, where the module is a `part`."""
        return {"part": self.module, "bytes": self.bytes, "sha256": self.sha256}

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> "StateFile":
        """Read an entry of a manifest. Raises KeyError when it is incomplete."""
        return cls(entry["part"], entry["bytes"], entry["sha256"])


@dataclass(frozen=True)
class SavedModules:
    """The state files of a checkpoint, by module, and their folder."""

    folder: Folder
    files: Mapping[str, StateFile]

    def check(self) -> None:
        """Compare the files' sizes. Raises DamagedFile, naming the first that differs."""
        sizes = self.folder.sizes()
        for module, file in self.files.items():
            name = file_name(module)
            if name not in sizes:
                raise DamagedFile(f"{self.folder}/{name}: cannot be read: there is no such file")
            if sizes[name] != file.bytes:
                raise self._altered(name)

    def read(self, module: str) -> tuple[TensorState, ScalarState]:
        """Return a module's tensors and scalars. Raises DamagedFile, naming its file."""
        if module not in self.files:
            raise JobError(f"{self.folder}: holds no {module}")
        data = self._bytes(module)
        header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        scalars: ScalarState = json.loads(header.get("__metadata__", {}).get("scalars", "{}"))
        return safetensors.torch.load(data), scalars

    def _bytes(self, module: str) -> bytes:
        file, name = self.files[module], file_name(module)
        try:
            data = self.folder.read(name)
        except OSError as error:
            raise DamagedFile(f"{self.folder}/{name}: cannot be read: {error}") from error
        if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            raise self._altered(name)
        return data

    def _altered(self, name: str) -> DamagedFile:
        return DamagedFile(
            f"{self.folder}/{name}: is not what was written (size or SHA-256 differ)"
        )


def file_name(module: str) -> str:
    """Return the name of the file that holds a module's state."""
    return f"{module}.safetensors"


def write_state(module: TrainedModule, folder: Folder) -> StateFile:
    """Write a module's weights and optimizer state into the folder; return once it is on disk.

    Raises OSError when the write fails, NonFiniteWeights when the weights are not worth keeping.
    """
    non_finite = module.first_non_finite()
    if non_finite is not None:
        raise NonFiniteWeights(f"{module.name}: {non_finite} is not finite")
    tensors, scalars = module.state()
    data = safetensors.torch.save(tensors, {"scalars": json.dumps(scalars)})
    folder.write(file_name(module.name), data)
    return StateFile(module.name, len(data), hashlib.sha256(data).hexdigest())
