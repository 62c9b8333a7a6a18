"""What is broadcast to the blocks: the global error, or what stands for it in cheaper rules.

Every rule here is layer-parallel: a block needs nothing but what is broadcast.

| feedback.kind | broadcast | source |
|---|---|---|
| random, identity | the error e | Nøkland 2016; arXiv 2006.12878 |
| sign | sign(e), over the number of samples | error-sign DFA: Frenkel 2021, eq. 6 |
| target | minus the one-hot class, over the number of samples | DRTP: Frenkel 2021, eq. 9 |

The last needs no error at all, so that it is sent with the input and no block waits for the head.
"""

from math import prod

import torch
from torch import Tensor

from dfa_core.activations import SampleSpec
from dfa_core.errors import JobError
from dfa_core.rule import LearningRule


def foretold(rule: LearningRule) -> bool:
    """Return whether the broadcast is known before the head has run."""
    return rule.feedback.kind == "target"


def of_error(error: Tensor, rule: LearningRule) -> Tensor:
    """Return what is broadcast for the error e of a microbatch, shaped like it."""
    if rule.feedback.kind != "sign":
        return error
    return error.sign() / (prod(error.shape[: rule.sample_dims]) * rule.microbatches)


def of_target(target: Tensor, error: SampleSpec, rule: LearningRule) -> Tensor:
    """Return what is broadcast for the targets of a microbatch.

    target: a class a sample, whole numbers; error: of the global error, whose last dimension is the
        number of classes.

    Raises JobError for other targets.
    """
    classes = error.shape[-1] if error.shape else 0
    if target.is_floating_point() or target.shape[1:] != error.shape[:-1]:
        raise JobError(
            f"feedback.kind: target needs one class a sample, not targets of "
            f"{tuple(target.shape)}, {target.dtype}; use random"
        )
    wanted = torch.nn.functional.one_hot(target, classes).to(error.dtype)
    return -wanted / (target.numel() * rule.microbatches)
