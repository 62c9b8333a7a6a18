"""Counts the floating-point operations of training, as torch's own counter knows them: products."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dfa_core.activations import Activations, tensors
from dfa_core.balance.timing import error_of
from dfa_core.block import Block
from dfa_core.head import Head
from dfa_core.layer import Layer
from dfa_core.microbatch import WHOLE
from dfa_core.passed_gradients import leaves
from dfa_core.seeding import restored_once
from dfa_core.trained import TrainedModule


@restored_once()
def layer_flops(layer: Layer, x: Activations, error: Tensor) -> int:
    """Return the operations of a layer's forward and of its gradients, for one microbatch.

    x: the layer's input; error: the global error of the same microbatch. With `bp`, the gradient of
    x is counted too. 0 where nothing can be counted. The layer's gradients are dropped.
    """

    def by_error() -> None:
        block = Block([layer])
        block.forward(x, 0, 0)
        block.update(error, 0, 0)

    def by_chain_rule() -> None:
        h = tensors(layer.forward(leaves(x), 0, 0))
        outputs = [tensor for tensor in h if tensor.requires_grad]
        torch.autograd.backward(outputs, [torch.zeros_like(tensor) for tensor in outputs])

    return _counted(layer, by_chain_rule if layer.rule.method == "bp" else by_error)


@restored_once()
def head_flops(head: Head, h: Activations, target: Tensor) -> int:
    """Return the operations of the head's forward, loss and backward pass, for one microbatch."""
    if head.rule.method == "bp":
        return _counted(head, lambda: head.backward(h, target, 0, 0, WHOLE))
    return _counted(head, lambda: error_of(head, h, target))


def _counted(module: TrainedModule, work: Callable[[], object]) -> int:
    """Count the operations of some work, and drop the gradients that it leaves.

    Compiled code is skipped: torch would compile it for the counter, and keep that.
    """
    rule, module.rule = module.rule, replace(module.rule, compiled=False)
    try:
        with suppress(Exception), FlopCounterMode(display=False) as counter:  # it is a figure only
            work()
            return int(counter.get_total_flops())
        return 0
    finally:
        module.rule = rule
        module.clear_gradients()
