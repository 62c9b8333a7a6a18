"""The tasks on citation graphs: classes of papers, and who cites whom."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfa_tasks.graphs.autoencoder import autoencoder_task
from dfa_tasks.graphs.convolutions import ConvolutionKind
from dfa_tasks.graphs.folds import load_fold
from dfa_tasks.graphs.full_batch import full_batch_splits
from dfa_tasks.graphs.generated import generate_graph
from dfa_tasks.graphs.models import dna, graph_network
from dfa_tasks.graphs.planetoid import Graph, load_graph
from dfa_tasks.options import check_options, settings_of
from dfa_tasks.task import Installed, Splits, Task

Network = ConvolutionKind | Literal["dna"]


def citation_task(
    graph: str, network: Network, method: str = "dfa", data_dir: str = "", **options: Any
) -> Task:
    """Return a network that classifies the papers of a graph.

    method: the settings of the paper's authors differ between dfa and bp.
    options: those of the network, e.g. width, layers, dropout; and `fold`, which replaces the
        public split by one of five stratified folds.

    Raises JobError for an unknown option.
    """
    check_options(f"{graph}-{network}", options, [*_known(network), "fold"])
    chosen = {**_settings(network, method)["options"], **options}
    load = _loader(graph, data_dir, chosen.pop("fold", None))
    return _node_task(load, network, method, chosen, bool(options.get("gathered")))


def generated_task(
    method: str = "dfa", data_dir: str = "", nodes: int = 20_000, **options: Any
) -> Task:
    """Return a GCN that classifies the nodes of a graph made by a generator.

    nodes: their number. options: those of the network; by default it has eight layers, residual,
        of 256. data_dir: not used.

    Raises JobError for an unknown option.
    """
    del data_dir
    check_options("generated-gcn", options, _known("gcn"))
    chosen = {"layers": 8, "width": 512, "dropout": 0.0, "residual": True, "sparse": True}
    chosen.update(options)
    gathered = bool(chosen.setdefault("gathered", False))
    return _node_task(partial(generate_graph, nodes), "gcn", method, chosen, gathered)


def _known(network: Network) -> list[str]:
    make: Any = dna if network == "dna" else graph_network
    return [n for n in inspect.signature(make).parameters if n not in ("kind", "load")]


def _settings(network: Network, method: str) -> dict[str, Any]:
    found: dict[str, Any] = settings_of("graphs")[network]["bp" if method == "bp" else "dfa"]
    return found


def _node_task(
    load: Callable[[], Graph], network: Network, method: str, chosen: dict[str, Any], gathered: bool
) -> Task:
    """Return the task of a graph; gathered: whether the user asked for it."""
    make: Any = dna if network == "dna" else partial(graph_network, network)
    residual = bool(chosen.get("residual"))
    if residual:  # in this network the error reaches a node's neighbours without it
        chosen["gathered"] = gathered
    return Task(
        model=make(load=load, **chosen),
        loss=node_loss,
        data=partial(_splits, load),
        metrics={"accuracy": node_accuracy},
        error_at="input" if residual else "output",
        defaults={
            **_settings(network, method)["defaults"],
            "batch_size": load().nodes,
            "feedback": {"kind": "identity" if residual else "random"},
        },
        full_batch=True,
    )


def _loader(graph: str, data_dir: str, fold: int | None) -> Callable[[], Graph]:
    if fold is None:
        return partial(load_graph, graph, data_dir)
    return partial(load_fold, graph, int(fold), data_dir)


def _splits(load: Any) -> Splits:
    graph: Graph = load()
    splits = (graph.train, graph.validation, graph.test)
    return full_batch_splits(
        *(torch.stack([graph.classes, split.long()], dim=1) for split in splits)
    )


def node_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of a split's nodes; target: (n, 2), class and 1 (in it) or 0."""
    counts = target[:, 1] > 0
    return nn.functional.cross_entropy(output[counts], target[counts, 0])


def node_accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the share of a split's nodes whose largest output is their class."""
    counts = target[:, 1] > 0
    return (output[counts].argmax(dim=1) == target[counts, 0]).float().mean()


_GRAPHS = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}
_NETWORKS: dict[Network, str] = {
    "gcn": "GCN",
    "cheb": "Chebyshev convolutions",
    "gat": "graph attention",
    "spline": "spline convolutions",
    "dna": "DNA convolutions",
}
_CLASSIFIERS = {
    f"{graph}-{network}": Installed(
        partial(citation_task, graph, network), f"{title}, classes of papers: {about}"
    )
    for graph, title in _GRAPHS.items()
    for network, about in _NETWORKS.items()
}
_AUTOENCODERS = {
    f"{graph}-autoencoder": Installed(
        partial(autoencoder_task, graph), f"{title}, who cites whom: graph autoencoder"
    )
    for graph, title in _GRAPHS.items()
}
_GENERATED = {
    "generated-gcn": Installed(
        generated_task, "a generated graph of 20,000 nodes, their classes: GCN of eight layers"
    )
}
INSTALLED = {**_CLASSIFIERS, **_AUTOENCODERS, **_GENERATED}
