"""A graph made by a generator: large enough to compute on, and the same on every machine."""

from functools import cache

import torch
from torch import Tensor

from dfa_core import JobError
from dfa_tasks.graphs.planetoid import Graph

CLASSES, WORDS = 7, 140
_SEED, _CITED, _WORDS_A_NODE = 0, 2, 8
_SAME_CLASS, _OWN_WORD = 0.8, 0.3  # how often a citation, and a word, is of the node's own class
_TRAIN, _VALIDATION, _TEST = 0.05, 0.05, 0.1


@cache
def generate_graph(nodes: int) -> Graph:
    """Return a stochastic block model (Holland 1983) in the form of a citation graph.

    Each node cites two others, mostly of its own class, and has eight words, some of them typical
    of its class. Like Cora, it has four directed edges a node, and a word or an edge alone says
    little.

    Raises JobError for fewer than 100 nodes.
    """
    if nodes < 100:
        raise JobError(f"options.nodes: {nodes} is not a number of at least 100")
    draws = torch.Generator().manual_seed(_SEED)
    classes = torch.randint(CLASSES, (nodes,), generator=draws)
    part = torch.rand(nodes, generator=draws)
    ends = (_TRAIN, _TRAIN + _VALIDATION, _TRAIN + _VALIDATION + _TEST)
    return Graph(
        features=_features(classes, draws),
        edges=_edges(classes, draws),
        classes=classes,
        train=part < ends[0],
        validation=(part >= ends[0]) & (part < ends[1]),
        test=(part >= ends[1]) & (part < ends[2]),
    )


def _edges(classes: Tensor, draws: torch.Generator) -> Tensor:
    """Return (2, m): each citation in both directions, none twice, and none of a node itself."""
    nodes = len(classes)
    by_class = classes.argsort(stable=True)
    counts = torch.bincount(classes, minlength=CLASSES)
    starts = counts.cumsum(0) - counts
    citing = torch.arange(nodes).repeat(_CITED)
    own = classes[citing]
    place = (torch.rand(len(citing), generator=draws) * counts[own]).long()
    same, anyone = (
        by_class[starts[own] + place],
        torch.randint(nodes, citing.shape, generator=draws),
    )
    cited = torch.where(torch.rand(len(citing), generator=draws) < _SAME_CLASS, same, anyone)
    pairs = torch.stack([torch.cat([citing, cited]), torch.cat([cited, citing])])
    edges: Tensor = torch.unique(pairs[:, pairs[0] != pairs[1]], dim=1)
    return edges


def _features(classes: Tensor, draws: torch.Generator) -> Tensor:
    """Return (n, words): the same share for each word of a node."""
    nodes, of_class = len(classes), WORDS // CLASSES
    shape = (nodes, _WORDS_A_NODE)
    own = classes[:, None] * of_class + torch.randint(of_class, shape, generator=draws)
    anyone = torch.randint(WORDS, shape, generator=draws)
    words = torch.where(torch.rand(shape, generator=draws) < _OWN_WORD, own, anyone)
    found = torch.zeros(nodes, WORDS).scatter_(1, words, 1.0)
    return found / found.sum(dim=1, keepdim=True)
