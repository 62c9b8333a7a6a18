"""Small checkpoints whose weights belong to their step."""

import torch
from torch import nn

from coordinator.runs.checkpoint import write_checkpoint
from coordinator.runs.state import RunState
from dfa_core import LearningRule, OptimizerSpec
from dfa_core.layer import Layer
from workers.state_files import StateFile, write_state
from workers.storage import Folder

JOB = {"task": "digits", "seed": 3}


def layers(seed: int) -> list[Layer]:
    torch.manual_seed(seed)
    rule = LearningRule(optimizer=OptimizerSpec("sgd", 0.1, {"momentum": 0.9}))
    made = [Layer(i, nn.Linear(3, 2), rule) for i in range(2)]
    for layer in made:
        layer.forward(torch.ones(1, 3), 0, 0).sum().backward()
        layer.apply_gradients(0)
    return made


def write(folder: Folder, step: int, keep: int = 10) -> Folder:
    """Write the state that belongs to this step: its weights come from the step's number."""

    def save(into: Folder) -> list[StateFile]:
        return [write_state(layer, into) for layer in layers(step)]

    return write_checkpoint(folder, RunState(step), JOB, save, keep)
