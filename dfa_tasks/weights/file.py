"""Weights on disk: a safetensors file, or a folder with one or several."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from dfa_core import JobError

_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_QUANTISED = ("I8", "F8", "F4")  # first letters of number formats, as safetensors calls them
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class WeightsFile:
    """Named tensors on disk.

    path: what the user named. shapes: by name. files: where each tensor is, by name.
    quantised: the number format of each tensor that is no weight without its scales, by name.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, Path]
    quantised: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "WeightsFile":
        """Read the names and shapes of a file or folder.

        Raises JobError where there is none that can be read, and for a pickle, which is not opened.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        files: dict[str, Path] = {}
        quantised: dict[str, str] = {}
        for file in _files(path):
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in opened.keys():  # noqa: SIM118  # it is no dictionary
                        there = opened.get_slice(name)
                        shapes[name], files[name] = tuple(there.get_shape()), file
                        if there.get_dtype().startswith(_QUANTISED):
                            quantised[name] = there.get_dtype()
            except (SafetensorError, OSError) as error:
                raise JobError(f"init: {file} cannot be read: {error}") from error
        return cls(path, shapes, files, quantised)

    def tensors(self, names: set[str]) -> dict[str, Tensor]:
        """Read tensors. Raises JobError where that fails."""
        found: dict[str, Tensor] = {}
        for file in sorted({self.files[name] for name in names}):
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in sorted(name for name in names if self.files[name] == file):
                        found[name] = opened.get_tensor(name)
            except (SafetensorError, OSError) as error:
                raise JobError(f"init: {file} cannot be read here: {error}") from error
        return found


def _files(path: Path) -> list[Path]:
    """Return the safetensors files that a path means."""
    if path.is_file():
        _refuse_pickle(path)
        return [path]
    if not path.is_dir():
        raise JobError(f"init: there is no file or folder {path}")
    index, whole = path / _INDEX, path / _WHOLE
    if index.is_file():
        return _shards(index)
    if whole.is_file():
        return [whole]
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found
    if found:
        names = ", ".join(file.name for file in found[:3])
        raise JobError(f"init: {path} holds several files ({names}); name one of them")
    if (path / "job.yaml").is_file():
        raise JobError(
            f"init: {path} is a run that has not ended; write its weights with errorcast export "
            f"{path} -o weights.safetensors, and name that file"
        )
    for file in sorted(path.iterdir()):
        _refuse_pickle(file)
    raise JobError(f"init: {path} holds no {_WHOLE}")


def _refuse_pickle(file: Path) -> None:
    if file.suffix in _PICKLED:
        raise JobError(
            f"init: {file} is a pickle, which can run code; convert it once with "
            f"safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW_FILE)"
        )


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = [index.parent / str(name) for name in sorted(names)]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise JobError(f"init: {index} cannot be read: {error}") from error
    outside = [file for file in files if file.parent != index.parent]
    if outside:
        raise JobError(f"init: {index} names a file elsewhere: {outside[0]}")
    return files
