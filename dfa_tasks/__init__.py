"""The tasks that errorcast trains: models, heads, losses and data."""

from dfa_core import Model
from dfa_tasks.registry import INSTALLED, make_task
from dfa_tasks.source import DatasetSource
from dfa_tasks.task import BatchSource, Splits, Task, accuracy, binary_accuracy

__all__ = [
    "INSTALLED",
    "BatchSource",
    "DatasetSource",
    "Model",
    "Splits",
    "Task",
    "accuracy",
    "binary_accuracy",
    "make_task",
]
