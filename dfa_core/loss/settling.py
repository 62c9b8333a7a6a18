"""Finds the weight of a loss's mean before the first step, and checks it on the first batch."""

import copy
from collections.abc import Iterator, Sequence
from math import isfinite

import torch
from torch import Tensor

from dfa_core.errors import JobError
from dfa_core.loss.mean import Loss, LossWeight, WeightedLoss
from dfa_core.loss.observing import target_use
from dfa_core.loss.weights import CalledWeight, CountedWeight, MeasuredWeight
from dfa_core.seeding import derive, drawing_from

_MOST_PARTS = 16
_MOST_BYTES = 64 << 20  # of the outputs that the check is made on
_TOLERANCE = 1e-5

Parts = Sequence[tuple[Tensor, Tensor]]  # (outputs, targets) of some parts of a batch


def settled(loss: Loss, output: Tensor, targets: Sequence[Tensor]) -> WeightedLoss:
    """Return the loss with the weight of its mean; one that is declared is taken as it is.

    output: the head's, for the samples of the first part. Other parts are paired with it too: no
        weight depends on an output.
    targets: of the parts of the first batch, none of more samples than the first. The halves of a
        single one are parts too.

    Where no weight fits, the number of samples is taken, and the loss has a flaw.
    """
    if isinstance(loss, WeightedLoss):
        return loss if loss.weight is not None else settled(loss.mean, output, targets)
    own, parts = _own(loss), _few(output.detach(), targets)
    try:
        for weight in _candidates(own, parts):
            if not _flaw(WeightedLoss(own, weight), parts):
                return WeightedLoss(loss, weight)
        flaw = _flaw(WeightedLoss(own), parts)
    except Exception:  # noqa: BLE001  # the loss fails: training reports it, with the shapes
        return WeightedLoss(loss)
    return WeightedLoss(loss, flaw=flaw or "the target decides what it is a mean of")


def _own(loss: Loss) -> Loss:
    """Return a copy where there can be one: a loss may count its calls."""
    try:
        return copy.deepcopy(loss)
    except Exception:  # noqa: BLE001  # any that a member's own __deepcopy__ raises
        return loss


def _few(output: Tensor, targets: Sequence[Tensor]) -> Parts:
    """Return the first parts; fewer, and less of them, where outputs are large."""
    row_bytes = max(1, output[:1].nbytes)
    rows = max(1, min(len(output), _MOST_BYTES // row_bytes))
    most = max(2, min(_MOST_PARTS, _MOST_BYTES // (rows * row_bytes)))
    parts = targets[:most] if len(targets) > 1 else targets[0].tensor_split(2)
    few = [target[:rows].to(output.device) for target in parts if len(target)]
    # each output is another one, and of the same range: what is a mean of outputs alone shows too
    return [
        (output[: len(target)] * (1 - index / (2 * len(few))), target)
        for index, target in enumerate(few)
    ]


def _candidates(own: Loss, parts: Parts) -> Iterator[LossWeight]:
    """Yield the weights that the loss may have, the likeliest first."""
    output, target = _whole(parts)
    given = target.clone()
    with drawing_from(derive(0, "loss")):
        use = target_use(own, output, given)
    if use.means:
        call = use.means[0]
        counted = CountedWeight.of(call, call.target.numel() / len(target))
        unchanged = given._version == 0 and call.target.data_ptr() == given.data_ptr()
        same = unchanged and call.target.numel() == given.numel()
        yield counted if same else CalledWeight(own, output, counted.elements)
    if not use.uneven:
        yield len
    try:
        measured = MeasuredWeight(own, output, target)
    except (RuntimeError, ValueError):
        return
    yield measured


def _flaw(loss: WeightedLoss, parts: Parts) -> str:
    """Return what shows that the weight is wrong, or nothing.

    A loss that draws random numbers gives another value each time, and is not judged.
    """
    if len(parts) < 2:
        return ""
    values = [_value(loss, *_whole(parts), draw) for draw in (0, 1)]
    if values[0] != values[1] or not isfinite(values[0]):
        return ""
    try:
        weights = [loss.weigh(target) for _, target in parts]
    except JobError:
        return "no weights of its parts are known"
    total = sum(weights) or 1.0
    terms = [
        weight / total * _value(loss, *part, 0)
        for part, weight in zip(parts, weights, strict=True)
        if weight
    ]
    if abs(sum(terms) - values[0]) <= _TOLERANCE * sum(map(abs, terms)):
        return ""
    return f"it is {values[0]:.6g}, and {sum(terms):.6g} as the mean of {len(parts)} parts"


def _value(loss: WeightedLoss, output: Tensor, target: Tensor, draw: int) -> float:
    with drawing_from(derive(0, "loss", draw)):
        return float(loss(output, target.clone()).detach())


def _whole(parts: Parts) -> tuple[Tensor, Tensor]:
    outputs, targets = zip(*parts, strict=True)
    return torch.cat(outputs), torch.cat(targets)
