"""The state of one layer, or of the head, as one safetensors file: no pickle."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from dfa_core.trained import ScalarState, TensorState, TrainedModule


@dataclass(frozen=True)
class StateFile:
    """A written file as the manifest names it: part, bytes, SHA-256."""

    part: str
    bytes: int
    sha256: str


def file_name(part: str) -> str:
    """Return the name of the file that holds a part's state."""
    return f"{part}.safetensors"


def write_state(part: TrainedModule, folder: Path) -> StateFile:
    """Write a part's weights and optimizer state into the folder, down to the disk.

    Raises OSError when the disk does not take it.
    """
    tensors, scalars = part.state()
    data = safetensors.torch.save(tensors, {"scalars": json.dumps(scalars)})
    write_durably(folder / file_name(part.name), data)
    return StateFile(part.name, len(data), hashlib.sha256(data).hexdigest())


def read_state(folder: Path, part: str) -> tuple[TensorState, ScalarState]:
    """Read what write_state wrote; the tensors are mapped from the file."""
    tensors: dict[str, Tensor] = {}
    with safetensors.safe_open(folder / file_name(part), framework="pt") as file:
        scalars: ScalarState = json.loads((file.metadata() or {}).get("scalars", "{}"))
        for key in file.keys():  # noqa: SIM118
            tensors[key] = file.get_tensor(key)
    return tensors, scalars


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
