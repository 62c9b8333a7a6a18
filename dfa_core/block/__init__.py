"""Layers that one worker hosts: what they compute and how they learn.

block.py is the learning rule; the other blocks compute the same in another way, or learn by
backpropagation (exact_block.py).
"""

from dfa_core.block.block import Block, add_local_gradients, backward
from dfa_core.block.layers_in_order import LayersInOrder, OnLayer, skip_if_non_finite

__all__ = [
    "Block",
    "LayersInOrder",
    "OnLayer",
    "add_local_gradients",
    "backward",
    "skip_if_non_finite",
]
