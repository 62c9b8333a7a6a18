"""Direct Feedback Alignment on plain PyTorch: no Ray, no gRPC.

No files either: atomic_file.py alone knows them, and all packages share it.

Read block/block.py first: it is the learning rule.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfa_core.activations import Activations, ActivationSpec, TensorSpec
    from dfa_core.balance.partitioning import partition
    from dfa_core.balance.profiling import ModelProfile, profile
    from dfa_core.block import Block
    from dfa_core.errors import JobError, NonFiniteLoss, TrainingFailed
    from dfa_core.feedback.error_format import ErrorFormat
    from dfa_core.feedback.matrix import Feedback, FeedbackSpec
    from dfa_core.gradient_alignment import alignment
    from dfa_core.head import Head
    from dfa_core.layer import Layer, build_layers
    from dfa_core.microbatch import split
    from dfa_core.model import Chain, Model, as_model
    from dfa_core.optimizer import OptimizerSpec
    from dfa_core.reference import Reference
    from dfa_core.rule import LearningRule
    from dfa_core.schedule import Action, Forward, Step, Update, block_actions, in_flight

__all__ = [
    "Action",
    "ActivationSpec",
    "Activations",
    "Block",
    "Chain",
    "ErrorFormat",
    "Feedback",
    "FeedbackSpec",
    "Forward",
    "Head",
    "JobError",
    "Layer",
    "LearningRule",
    "Model",
    "ModelProfile",
    "NonFiniteLoss",
    "OptimizerSpec",
    "Reference",
    "Step",
    "TensorSpec",
    "TrainingFailed",
    "Update",
    "alignment",
    "as_model",
    "block_actions",
    "build_layers",
    "in_flight",
    "partition",
    "profile",
    "split",
]

_HOMES = {
    "activations": ("Activations", "ActivationSpec", "TensorSpec"),
    "gradient_alignment": ("alignment",),
    "block": ("Block",),
    "feedback.error_format": ("ErrorFormat",),
    "errors": ("JobError", "NonFiniteLoss", "TrainingFailed"),
    "feedback.matrix": ("Feedback", "FeedbackSpec"),
    "head": ("Head",),
    "layer": ("Layer", "build_layers"),
    "microbatch": ("split",),
    "model": ("Chain", "Model", "as_model"),
    "optimizer": ("OptimizerSpec",),
    "balance.partitioning": ("partition",),
    "balance.profiling": ("ModelProfile", "profile"),
    "reference": ("Reference",),
    "rule": ("LearningRule",),
    "schedule": ("Action", "Forward", "Step", "Update", "block_actions", "in_flight"),
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: a process that only reports errors needs no torch."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
