"""A module with its own optimizer: what a layer and the head have in common."""

from dfa_core.trained.module import ScalarState, TensorState, TrainedModule

__all__ = ["ScalarState", "TensorState", "TrainedModule"]
