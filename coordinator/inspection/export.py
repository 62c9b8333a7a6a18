"""Writes a run's weights in the form of the module that its task has cut into layers."""

import shutil
from pathlib import Path

from torch import Tensor

from coordinator.job.resolve import resolve_spec
from coordinator.runs.run_folder import RunFolder, write_weights
from dfa_core import JobError, Model
from dfa_core.atomic_file import atomic_path
from dfa_tasks.hugging_face.model import TransformersModel, save_pretrained


def export_module(folder: RunFolder, output: Path) -> int | None:
    """Write the weights under the names of the task's module; return their step, None if none.

    Raises JobError if the task gives no module but layer factories, OSError when the write fails.
    """
    model = resolve_spec(folder.spec()).model
    found = folder.weights()
    if found is None:
        return None
    checkpoint, weights = found
    write_weights(output, _renamed(model, weights), checkpoint)
    return checkpoint.step


def export_transformers(folder: RunFolder, output: Path) -> int | None:
    """Write a folder that the transformers library loads; return the weights' step, None if none.

    The files of the tokenizer are in it too, if the run has any.

    Raises JobError if the task's model is not of that library, or the folder exists already;
    OSError when the write fails.
    """
    job = resolve_spec(folder.spec())
    model = job.model
    if not isinstance(model, TransformersModel):
        raise JobError(
            f"{folder.path}: its task's model is not of the transformers library; leave out "
            f"--format transformers"
        )
    if output.exists():
        raise JobError(f"{output} exists already; name a new folder with -o")
    found = folder.weights()
    if found is None:
        return None
    checkpoint, weights = found
    with atomic_path(output) as unfinished:
        unfinished.mkdir()
        save_pretrained(model, _renamed(model, weights), unfinished)
        for name in job.task.files:
            shutil.copy(folder.path / name, unfinished / name)
    return checkpoint.step


def _renamed(model: Model, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    if not model.names:
        raise JobError(
            "the task's model is made of layer factories, so its weights have no other names; "
            "remove --format"
        )
    own = next((name for name in weights if name not in model.names), None)
    if own is not None:
        raise JobError(
            f"{own} is no weight of the task's module: layers_of put it into a part; leave out "
            f"--format"
        )
    return {model.names[name][0]: tensor for name, tensor in weights.items()}
