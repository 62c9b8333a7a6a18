"""One layer of a model: its forward, its learning signals, its state."""

from dfa_core.layer.layer import Layer, build_layers
from dfa_core.layer.learning_signals import LEARNING, LearnsBy

__all__ = ["LEARNING", "Layer", "LearnsBy", "build_layers"]
