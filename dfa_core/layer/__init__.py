"""One layer of a model: its forward, its learning signals, its state."""

from dfa_core.layer.layer import Layer, build_layers
from dfa_core.layer.learning_signals import LearnsBy

__all__ = ["Layer", "LearnsBy", "build_layers"]
