"""The model that a new run starts with: the job's first weights, and what it freezes."""

from dataclasses import replace
from pathlib import Path

from coordinator.job.resolve import Job
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import Emit, Noted
from dfa_core import Model
from dfa_tasks.hugging_face.model import TransformersModel
from dfa_tasks.weights.file import WeightsFile
from dfa_tasks.weights.frozen import Freeze
from dfa_tasks.weights.matching import StartFrom, match, shapes_of


def model_to_start_with(job: Job, folder: RunFolder, emit: Emit) -> Model:
    """Return the model of a run: its first one, or where there is a checkpoint, the job's.

    A checkpoint then replaces the weights. emit: gets the report on the first ones.

    Raises JobError as first_model().
    """
    if folder.checkpoint() is not None:
        return job.model
    model, report = first_model(job)
    for line in report:
        emit(Noted(line))
    return model


def first_model(job: Job) -> tuple[Model, list[str]]:
    """Return the model of a run that begins now, and lines that say where its weights are from.

    Raises JobError if the job's `init` does not fit the model, or `frozen` names no weight.
    """
    model, init = job.model, job.settings.init
    notes = [_untied(model)] if isinstance(model, TransformersModel) and model.tied else []
    if not init and not job.settings.frozen:
        return model, notes
    shapes = shapes_of(model, job.settings.seed)
    Freeze(job.settings.frozen, model.names).check(shapes)
    if not init:
        return model, notes
    file = WeightsFile.open(Path(init))
    matched = match(shapes, model.names, file)
    start = StartFrom(file, matched.of)
    first = replace(model, preparations=(start, *model.preparations))
    return first, [*notes, *matched.lines(file)]


def _untied(model: TransformersModel) -> str:
    own, shared = next(iter((model.tied or {}).items()))
    return (
        f"{model.of.__name__} ties {own} to {shared}; here they are two weights, which learn "
        f"apart (an export says tie_word_embeddings: false)"
    )
