"""Five stratified folds of a graph's nodes, in place of the public split."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from dfa_core import JobError
from dfa_tasks.graphs.planetoid import Graph, load_graph

FOLDS = 5


@cache
def load_fold(name: str, fold: int, data_dir: str = "") -> Graph:
    """Read a graph; one fold is for training, the next one for validation, three for testing.

    Each fold has each class's share; nodes without a class are in none.

    Raises JobError for a fold that there is not, and what load_graph() raises.
    """
    from sklearn.model_selection import StratifiedKFold  # noqa: PLC0415  # takes a second

    if not 0 <= fold < FOLDS:
        raise JobError(f"options.fold: {fold} is not between 0 and {FOLDS - 1}")
    graph = load_graph(name, data_dir)
    known = np.flatnonzero(graph.classes.numpy() >= 0)
    stratified: Any = StratifiedKFold
    folds = stratified(FOLDS, shuffle=True, random_state=0)
    number = torch.full((graph.nodes,), -1)
    for index, (_, inside) in enumerate(folds.split(known, graph.classes[known])):
        number[known[inside]] = (index - fold) % FOLDS
    return replace(graph, train=number == 0, validation=number == 1, test=number > 1)
