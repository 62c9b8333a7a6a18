"""The generated graph, and the sums along its edges as sparse products."""

import warnings

import pytest
import torch

from dfa_core import JobError
from dfa_tasks.graphs.convolutions import SparseMixing, adjacency, mixing
from dfa_tasks.graphs.generated import generate_graph
from dfa_tasks.graphs.tasks import citation_task, generated_task

NODES = 500


@pytest.mark.unit
def test_it_is_a_citation_graph_and_always_the_same() -> None:
    graph = generate_graph(NODES)
    generate_graph.cache_clear()
    again = generate_graph(NODES)
    assert torch.equal(graph.edges, again.edges)
    assert torch.equal(graph.features, again.features)
    source, target = graph.edges
    assert (source != target).all()
    pairs = set(map(tuple, graph.edges.T.tolist()))
    assert len(pairs) == graph.edges.shape[1]
    assert {(b, a) for a, b in pairs} == pairs
    assert 3.5 < len(pairs) / NODES <= 4
    same = (graph.classes[source] == graph.classes[target]).float().mean()
    assert 0.75 < float(same) < 0.9
    torch.testing.assert_close(graph.features.sum(dim=1), torch.ones(NODES))
    splits = torch.stack([graph.train, graph.validation, graph.test]).long().sum(dim=0)
    assert int(splits.max()) == 1
    with pytest.raises(JobError, match=r"options.nodes: 5 is not a number of at least 100"):
        generate_graph(5)


@pytest.mark.unit
def test_a_sparse_product_is_torch_geometrics_sum() -> None:
    graph = generate_graph(NODES)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Sparse")
        matrix = adjacency(graph)
    x = torch.randn(NODES, 8, requires_grad=True)
    expected = mixing("gcn", 8, graph, 0.0)(x, graph.edges)
    found = SparseMixing(8)(x, matrix)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, x, gradient)
    torch.testing.assert_close(torch.autograd.grad(found, x, gradient)[0], wanted)


def test_only_a_gcn_has_the_matrix() -> None:
    for network, options in (("gat", {}), ("gcn", {"gathered": True})):
        with pytest.raises(JobError, match=r"options.sparse: is for a GCN"):
            citation_task("cora", network, sparse=True, **options)  # type: ignore[arg-type]


@pytest.mark.unit
def test_the_task_is_deep_and_residual() -> None:
    task = generated_task(nodes=NODES, width=16)
    assert (len(task.model.layers), task.error_at, task.full_batch) == (7, "input", True)  # type: ignore[union-attr]
    assert task.defaults["batch_size"] == NODES
    assert task.defaults["feedback"] == {"kind": "identity"}
