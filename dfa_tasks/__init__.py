"""The tasks that errorcast trains: models, heads, losses and data."""

import sys

from dfa_core import Model
from dfa_tasks.callback import Callback, StopTraining
from dfa_tasks.moved import MovedModules
from dfa_tasks.registry import INSTALLED, make_task
from dfa_tasks.source import DatasetSource
from dfa_tasks.task import BatchSource, Splits, Task, accuracy, binary_accuracy

sys.meta_path.append(MovedModules())  # last: a module that is there is found first

__all__ = [
    "INSTALLED",
    "BatchSource",
    "Callback",
    "DatasetSource",
    "Model",
    "Splits",
    "StopTraining",
    "Task",
    "accuracy",
    "binary_accuracy",
    "make_task",
]
