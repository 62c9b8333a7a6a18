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
    """Read a graph whose splits are folds: one to train, the next to validate, three to test.

    Each fold has the same share of every class. Nodes without a class are in no fold.

    Raises JobError for an unknown fold and for the reasons of load_graph().
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
