"""The model that a new run starts with: the job's first weights, and what it freezes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from coordinator.job.resolve import Job
from dfa_core import JobError, Model
from dfa_core.activations import tensors
from dfa_tasks.weights.file import WeightsFile
from dfa_tasks.weights.frozen import Freeze
from dfa_tasks.weights.matching import StartFrom, match, shapes_of

_SAMPLES = 2  # that a cut model is tried on
_ROUNDING = 1e-3  # relative to the largest output


def first_model(job: Job) -> tuple[Model, list[str]]:
    """Return the model of a run that begins now, and lines that say where its weights are from.

    Raises JobError if the job's `init` does not fit the model, or `frozen` names no weight.
    """
    model, init = job.model, job.settings.init
    if not init and not job.settings.frozen:
        return model, []
    shapes = shapes_of(model, job.settings.seed)
    Freeze(job.settings.frozen, model.names).check(shapes)
    if not init:
        return model, []
    file = WeightsFile.open(Path(init))
    matched = match(shapes, model.names, file)
    start = StartFrom(file, matched.of)
    return replace(model, preparations=(start, *model.preparations)), matched.lines(file)


def check_cut(job: Job, x: Tensor) -> None:
    """Raise JobError where the layers of a module, chained, compute something else than the module.

    x: inputs of some samples.
    """
    whole = job.task.whole
    if whole is None:
        return
    model, seed, x = job.model, job.settings.seed, x[:_SAMPLES]
    parts = [model.build_layer(index, seed) for index in range(len(model.layers))]
    training = [(part, part.training) for part in whole.modules()]
    whole.eval()
    try:
        with torch.no_grad():
            expected = _output(whole, x)
            h: Sequence[Tensor] = (x,)
            for part in (*parts, model.build_head(seed)):
                h = tensors(part.eval()(*h))
    finally:
        for part, was in training:
            part.training = was
    scale = expected.abs().max().clamp(min=1)
    if h[0].shape != expected.shape or bool((h[0] - expected).abs().max() > _ROUNDING * scale):
        raise JobError(
            f"layers_of: the parts of {type(whole).__name__} in a row compute something else than "
            f"the module; its forward must do nothing between them: put reshapes and additions "
            f"into the parts"
        )


def _output(whole: torch.nn.Module, x: Tensor) -> Tensor:
    out = whole(x)
    if not isinstance(out, Tensor):
        raise JobError(f"layers_of: {type(whole).__name__} returns {type(out).__name__}, no tensor")
    return out
