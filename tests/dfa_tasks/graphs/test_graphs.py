"""Citation graphs: the reader on real and on broken files, the layers against their formulas."""

import os
import pickle
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import nn
from torch_geometric.nn import ChebConv, GATConv, GCNConv

from coordinator.job.resolve import resolve
from dfa_core import JobError, LearningRule, Reference
from dfa_tasks.graphs.autoencoder import TEST, TRAIN, VALIDATION, edge_split, load_training_edges
from dfa_tasks.graphs.convolutions import MAPS, ConvolutionKind, SplineMixing
from dfa_tasks.graphs.folds import load_fold
from dfa_tasks.graphs.full_batch import WholeGraph
from dfa_tasks.graphs.models import GraphLayer, graph_network
from dfa_tasks.graphs.planetoid import Graph, load_graph
from dfa_tasks.graphs.tasks import node_accuracy, node_loss

SIZES = {"cora": (2708, 10556, 1433, 7, 140), "citeseer": (3327, 9104, 3703, 6, 120)}


@pytest.mark.parametrize("name", SIZES)
def test_the_public_split_of_real_graphs(real_data: Path, name: str) -> None:
    """The sizes that Yang 2016 and torch_geometric give."""
    graph = load_graph(name, str(real_data / "planetoid"))
    nodes, edges, features, classes, train = SIZES[name]
    assert graph.features.shape == (nodes, features)
    assert graph.edges.shape == (2, edges)
    assert (graph.nodes, graph.class_count) == (nodes, classes)
    counts = [int(part.sum()) for part in (graph.train, graph.validation, graph.test)]
    assert counts == [train, 500, 1000]
    assert not (graph.train & graph.validation | graph.validation & graph.test).any()
    sums = graph.features.sum(dim=1)
    assert torch.allclose(sums[sums > 0], torch.ones(1))
    back = {(b, a) for a, b in graph.edges.T.tolist()}
    assert back == {(a, b) for a, b in graph.edges.T.tolist()}


def small(folder: Path) -> Path:
    """A graph of seven nodes in Planetoid form; node 5 is isolated and in no file."""
    folder.mkdir(exist_ok=True)
    known, tested = np.eye(5, 4, dtype=np.float32), np.eye(2, 4, dtype=np.float32)
    labels = np.eye(3, dtype=np.int32)[[0, 1, 2, 0, 1]]
    neighbours = defaultdict(list, {0: [1, 4], 1: [0], 2: [3], 3: [2, 6], 4: [0], 6: [3, 6]})
    parts = {
        "x": csr_matrix(known[:3]),
        "tx": csr_matrix(tested[:1]),
        "allx": csr_matrix(known),
        "ty": labels[:1],
        "ally": labels,
        "graph": neighbours,
    }
    for part, value in parts.items():
        (folder / f"ind.small.{part}").write_bytes(pickle.dumps(value, protocol=3))
    (folder / "ind.small.test.index").write_text("6\n")
    return folder


def test_a_node_without_edges_and_rows_is_empty(tmp_path: Path) -> None:
    graph = load_graph("small", str(small(tmp_path)))
    assert graph.nodes == 7
    assert graph.features[5].sum() == 0
    assert 5 not in graph.edges
    assert graph.edges.shape == (2, 8)  # the loop of node 6 is left out
    assert graph.test.tolist() == [False] * 6 + [True]


class Planted:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> object:
        return os.system, ("touch planted",)


def test_a_pickle_of_something_else_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = small(tmp_path / "data")
    (folder / "ind.small.graph").write_bytes(pickle.dumps(Planted(), protocol=2))
    with pytest.raises(JobError, match=r"ind\.small\.graph: cannot be read: it contains a posix"):
        load_graph("small", str(folder))
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("kept", [0, 1, 40])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    file = small(tmp_path) / "ind.small.allx"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(JobError, match=r"ind\.small\.allx: cannot be read"):
        load_graph("small", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("6\nx\n", "line 2: 'x' is not the number of a node"),
        ("", "has no rows"),
        ("6\n7\n", "2 test indices for 1 rows"),
        ("3\n", "1 test indices for 1 rows, 5 others"),
        ("5\n", "an edge names node 6, but there are 6 nodes"),
    ],
)
def test_a_wrong_test_index_is_named(tmp_path: Path, text: str, what: str) -> None:
    (small(tmp_path) / "ind.small.test.index").write_text(text)
    with pytest.raises(JobError, match=what):
        load_graph("small", str(tmp_path))


def test_a_missing_file_says_what_to_put_where(tmp_path: Path, real_data: Path) -> None:
    shutil.copytree(real_data / "planetoid", tmp_path / "planetoid")
    (tmp_path / "planetoid" / "ind.cora.allx").unlink()
    with pytest.raises(JobError, match=r"has no planetoid; put ind\.cora\.x"):
        load_graph("cora", str(tmp_path))


def random_graph(nodes: int = 9) -> Graph:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.rand(nodes, nodes, generator=generator).triu(1) > 0.6
    edges = (pairs | pairs.T).nonzero().T.contiguous()
    nobody = torch.zeros(nodes, dtype=torch.bool)
    classes = torch.arange(nodes) % 3
    features = torch.randn(nodes, 4, generator=generator)
    return Graph(features, edges, classes, nobody, nobody, nobody)


def test_the_spline_convolution_is_its_formula() -> None:
    torch.manual_seed(0)
    graph = random_graph()
    layer = SplineMixing(graph, 3)
    near, far, own = (torch.randn(4, 3) for _ in range(3))
    x = graph.features
    out = layer(torch.cat([x @ near, x @ far, x @ own], dim=1), graph.edges)
    degrees = [int((graph.edges[1] == i).sum()) for i in range(graph.nodes)]
    for i in range(graph.nodes):
        expected = x[i] @ own + layer.bias
        u = degrees[i] / max(degrees)
        for j in graph.edges[0][graph.edges[1] == i]:
            expected = expected + ((1 - u) * x[j] @ near + u * x[j] @ far) / degrees[i]
        assert torch.allclose(out[i], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["gcn", "cheb", "gat"])
def test_a_layer_is_torch_geometrics_convolution(kind: ConvolutionKind) -> None:
    """With the maps taken out, and words in place of a matrix."""
    torch.manual_seed(0)
    graph = random_graph()
    features = graph.features.clamp(min=0)
    graph = replace(graph, features=features)
    layer = GraphLayer(kind, lambda: graph, (None, 8), dropout=0.0, activation=False)
    mix: Any = layer.mix
    weight = layer.map.bag.weight.T  # type: ignore[union-attr]
    whole: Any
    if kind == "gcn":
        whole = GCNConv(4, 8)
        whole.lin.weight.data = weight
    elif kind == "cheb":
        whole = ChebConv(4, 8, K=2)
        for lin, part in zip(whole.lins, weight.chunk(2), strict=True):
            lin.weight.data = part
    else:
        whole = GATConv(4, 1, heads=8)
        whole.lin.weight.data = weight
        whole.att_src.data, whole.att_dst.data = mix.att_src.data, mix.att_dst.data
    wanted = whole(features, graph.edges)
    assert torch.allclose(layer(torch.arange(9)), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["gcn", "cheb", "spline"])
def test_a_network_cut_after_the_gathering_is_the_same(kind: ConvolutionKind) -> None:
    graph = replace(random_graph(), features=random_graph().features.clamp(min=0))
    networks = [
        Reference(
            graph_network(kind, lambda: graph, layers=3, width=5, gathered=gathered),
            nn.functional.cross_entropy,
            LearningRule(),
        )
        for gathered in (False, True)
    ]
    plain, gathered = ([trained.module for trained in one.trained_modules()] for one in networks)
    gathered[0].read.load_state_dict(plain[0].state_dict())  # type: ignore[union-attr,operator]
    read: list[Any] = [gathered[1].read, gathered[2]]
    for module, copied in zip(plain[1:], read, strict=True):
        whole: Any = module
        parts = whole.map[1].weight.chunk(MAPS[kind])
        copied.weight.data = torch.cat(parts, dim=1)
        copied.bias.data = whole.mix.bias.data
    nodes = torch.arange(graph.nodes)
    outputs = [network.evaluate(nodes) for network in networks]
    assert torch.allclose(*outputs, atol=1e-5)
    assert outputs[0].abs().max() > 0.01


def test_attention_cannot_be_cut_there(real_data: Path) -> None:
    settings = {"data_dir": str(real_data), "options": {"gathered": True}}
    with pytest.raises(JobError, match=r"options\.gathered: an attention network gathers"):
        resolve("cora-gat", settings)


def test_folds_share_out_every_class(real_data: Path) -> None:
    graphs = [load_fold("citeseer", fold, str(real_data / "planetoid")) for fold in range(5)]
    unknown = graphs[0].classes < 0
    assert int(unknown.sum()) == 15
    assert torch.stack([g.train for g in graphs]).sum(dim=0).equal((~unknown).long())
    for graph in graphs:
        parts = [graph.train, graph.validation, graph.test]
        assert torch.stack(parts).sum(dim=0).equal((~unknown).long())
        of_class = [torch.bincount(graph.classes[p], minlength=6).float() for p in parts]
        assert torch.allclose(of_class[0] * 3, of_class[2], atol=5)
    assert graphs[0].validation.equal(graphs[1].train)
    with pytest.raises(JobError, match=r"options\.fold: 5 is not between 0 and 4"):
        load_fold("citeseer", 5, str(real_data / "planetoid"))


def test_residual_networks_take_the_error_at_the_heads_input(real_data: Path) -> None:
    settings = {"data_dir": str(real_data), "options": {"residual": True, "layers": 4}}
    job = resolve("cora-gcn", settings)
    assert (job.task.error_at, job.rule(1).feedback.kind) == ("input", "identity")
    assert resolve("cora-gcn", {"data_dir": str(real_data)}).task.error_at == "output"


def test_edges_to_predict_are_not_seen(real_data: Path) -> None:
    data = str(real_data / "planetoid")
    graph, split = load_graph("cora", data), edge_split("cora", data)
    train, validation, test = (split[part] for part in (TRAIN, VALIDATION, TEST))
    assert [p.linked.shape[1] for p in (train, validation, test)] == [4488, 263, 527]
    linked = torch.cat([p.linked for p in split.values()], dim=1)
    assert linked.unique(dim=1).shape[1] == graph.edges.shape[1] // 2
    known = set(map(tuple, graph.edges.T.tolist()))
    for part in (validation, test):
        assert part.others.shape == part.linked.shape
        assert not any(tuple(pair) in known for pair in part.others.T.tolist())
    seen = set(map(tuple, load_training_edges("cora", data).edges.T.tolist()))
    assert seen < known
    assert not any(tuple(pair) in seen for pair in test.linked.T.tolist())


def test_the_autoencoder_predicts_edges(real_data: Path) -> None:
    job = resolve("cora-autoencoder", {"data_dir": str(real_data)})
    splits, reference = job.task.splits(), Reference(job.model, job.task.loss, job.rule(1))
    assert isinstance(splits.train, WholeGraph)
    x, target = splits.train.batch(0)
    for step in range(200):
        reference.train_step(step, x, target)
    z = reference.evaluate(x)
    scores = {n: f(z, splits.test.tensors[1]) for n, f in job.task.global_metrics.items()}  # type: ignore[attr-defined]
    assert scores["auc"] > 0.85
    assert scores["average_precision"] > 0.85


def test_nodes_that_do_not_count_do_not_count() -> None:
    output = torch.tensor([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
    target = torch.tensor([[0, 1], [1, 1], [1, 0]])
    assert node_accuracy(output, target) == 1
    assert node_loss(output, target) < 0.02
    assert node_accuracy(output, torch.tensor([[0, 1], [0, 1], [1, 0]])) == 0.5


def test_a_graph_is_not_cut(real_data: Path) -> None:
    with pytest.raises(JobError, match="microbatches: 2: this task needs its whole batch at once"):
        resolve("cora-gcn", {"microbatches": 2, "data_dir": str(real_data)})


def test_settings_depend_on_the_method_and_name_layers(real_data: Path) -> None:
    data = {"data_dir": str(real_data)}
    jobs = {method: resolve("cora-gcn", {"method": method, **data}) for method in ("dfa", "bp")}
    decay = {
        m: job.rule(1).optimizer.for_module("0").options["weight_decay"] for m, job in jobs.items()
    }
    assert decay == {"dfa": 1e-4, "bp": 5e-4}
    assert "weight_decay" not in jobs["dfa"].rule(1).optimizer.for_module("head").options
    with pytest.raises(JobError, match=r"layer_options: there is no layer '7'"):
        resolve("cora-gcn", {"optimizer": {"layer_options": {"7": {}}}, **data})
