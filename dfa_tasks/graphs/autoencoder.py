"""Graph autoencoder (Kipf and Welling 2016): an embedding that predicts who cites whom."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from dfa_core import Model
from dfa_tasks.graphs.full_batch import full_batch_splits
from dfa_tasks.graphs.models import GraphLayer
from dfa_tasks.graphs.planetoid import Graph, load_graph
from dfa_tasks.options import check_options, settings_of
from dfa_tasks.task import Splits, Task

TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True)
class Pairs:
    """Pairs of nodes, (2, m): those with an edge, each once, and as many without an edge."""

    linked: Tensor
    others: Tensor


@cache
def edge_split(name: str, data_dir: str = "") -> Mapping[int, Pairs]:
    """Split the edges at random, but always in the same way: 85% train, 5% validation, 10% test.

    The training split has no pairs without an edge: each step draws new ones.
    """
    graph = load_graph(name, data_dir)
    generator = torch.Generator().manual_seed(0)
    once = graph.edges[:, graph.edges[0] < graph.edges[1]]
    once = once[:, torch.randperm(once.shape[1], generator=generator)]
    tenth, twentieth = once.shape[1] // 10, once.shape[1] // 20
    drawn = torch.randint(graph.nodes, (2, 2 * (tenth + twentieth)), generator=generator)
    others = drawn[:, ~_linked(graph, drawn)]
    test, validation, train = once.tensor_split((tenth, tenth + twentieth), dim=1)
    return {
        TRAIN: Pairs(train, train[:, :0]),
        VALIDATION: Pairs(validation, others[:, :twentieth]),
        TEST: Pairs(test, others[:, twentieth : twentieth + tenth]),
    }


def _linked(graph: Graph, pairs: Tensor) -> Tensor:
    """Return, (m,), whether a pair has an edge or consists of one node; pairs: (2, m)."""
    edges = graph.edges[0] * graph.nodes + graph.edges[1]
    return torch.isin(pairs[0] * graph.nodes + pairs[1], edges) | (pairs[0] == pairs[1])


@cache
def load_training_edges(name: str, data_dir: str = "") -> Graph:
    """Read a graph with the training edges only; the model predicts the others."""
    linked = edge_split(name, data_dir)[TRAIN].linked
    return replace(load_graph(name, data_dir), edges=torch.cat([linked, linked.flip(0)], dim=1))


def autoencoder_task(graph: str, data_dir: str = "", **options: Any) -> Task:
    """Return a graph autoencoder.

    options: hidden, size (of the embedding), dropout.

    Raises JobError for another option.
    """
    check_options(f"{graph}-autoencoder", options, ("hidden", "size", "dropout"))
    settings = settings_of("graphs")["autoencoder"]
    load = partial(load_training_edges, graph, data_dir)
    pairs = partial(edge_split, graph, data_dir)
    return Task(
        model=autoencoder(load=load, **{**settings["options"], **options}),
        loss=PairLoss(pairs),
        data=partial(_splits, load),
        metrics={},
        global_metrics={
            "auc": partial(rank, pairs, "roc_auc_score"),
            "average_precision": partial(rank, pairs, "average_precision_score"),
        },
        defaults={**settings["defaults"], "batch_size": load().nodes},
        full_batch=True,
    )


def autoencoder(load: Any, hidden: int, size: int, dropout: float) -> Model:
    """Return two graph convolutions; the second one is the head and gives the embedding."""
    layer = partial(GraphLayer, "gcn", load, dropout=dropout)
    return Model(
        [partial(layer, widths=(None, hidden))],
        partial(layer, widths=(hidden, size), activation=False),
    )


def _splits(load: Any) -> Splits:
    classes = load().classes
    splits = (torch.full_like(classes, split) for split in (TRAIN, VALIDATION, TEST))
    return full_batch_splits(*(torch.stack([classes, split], dim=1) for split in splits))


class PairLoss:
    """Log loss of the inner products z_i·z_j of pairs with and without an edge (Kipf 2016, eq. 3).

    Each training step draws as many other pairs as there are edges; a few of them have an edge too.
    """

    def __init__(self, pairs: Any) -> None:
        self._pairs = pairs

    def __call__(self, z: Tensor, target: Tensor) -> Tensor:
        """Return the mean; z: (n, size), target: (n, 2), class (unused) and split of the edges."""
        split = int(target[0, 1])
        pairs: Pairs = self._pairs()[split]
        others = pairs.others
        if split == TRAIN:
            others = torch.randint(len(z), pairs.linked.shape, device=z.device)
        logits, linked = _logits(z, pairs.linked, others)
        return nn.functional.binary_cross_entropy_with_logits(logits, linked)


def _logits(z: Tensor, linked: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([linked, others], dim=1).to(z.device)
    logits = (z[both[0]] * z[both[1]]).sum(dim=1)
    is_linked = torch.zeros_like(logits)
    is_linked[: linked.shape[1]] = 1
    return logits, is_linked


def rank(pairs: Any, score: str, z: Tensor, target: Tensor) -> float:
    """Return a score of sklearn.metrics for the pairs of the target's split; NaN for training."""
    from sklearn import metrics  # noqa: PLC0415  # takes a second

    known: Pairs = pairs()[int(target[0, 1])]
    if not known.others.numel():
        return float("nan")
    logits, linked = _logits(z, known.linked, known.others)
    return float(getattr(metrics, score)(linked.numpy(), logits.numpy()))
