"""Direct Feedback Alignment on plain PyTorch: no Ray, no gRPC, no files.

Read block.py first: it is the learning rule.
"""

from dfa_core.alignment import alignment
from dfa_core.block import Block
from dfa_core.errors import JobError, NonFiniteLoss, TrainingFailed
from dfa_core.feedback import Feedback, FeedbackSpec
from dfa_core.head import Head
from dfa_core.layer import Layer, build_layers
from dfa_core.microbatch import split
from dfa_core.model import Model, as_model
from dfa_core.optimizer import OptimizerSpec
from dfa_core.partition import partition
from dfa_core.profile import ModelProfile, SampleSpec, profile
from dfa_core.reference import Reference
from dfa_core.rule import LearningRule
from dfa_core.schedule import Action, Forward, Step, Update, block_actions, in_flight

__all__ = [
    "Action",
    "Block",
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
    "SampleSpec",
    "Step",
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
