"""Weights from files: which tensor each weight takes, what is reported, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from dfa_core import JobError, Model, as_model
from dfa_tasks.weights.file import WeightsFile
from dfa_tasks.weights.frozen import Freeze
from dfa_tasks.weights.matching import StartFrom, match, shapes_of


def network(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, classes))


def own(model: Model) -> dict[str, Tensor]:
    built = {f"layers.{i}": model.build_layer(i, 0) for i in range(len(model.layers))}
    built["head"] = model.build_head(0)
    return {f"{p}.{n}": t for p, module in built.items() for n, t in module.state_dict().items()}


def started(model: Model, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    file = WeightsFile.open(path)
    matched = match(shapes_of(model, 0), model.names, file)
    first = replace(model, preparations=(StartFrom(file, matched.of),))
    return own(first), matched.lines(file)


def other_weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {n: torch.randn(t.shape, generator=generator) for n, t in network().state_dict().items()}


@pytest.mark.parametrize(
    "renamed",
    [
        pytest.param(lambda n, model: n, id="the module's names"),
        pytest.param(lambda n, model: f"module.{n}", id="a first part more"),
        pytest.param(
            lambda n, model: next(ours for ours, (first,) in model.names.items() if first == n),
            id="errorcast's names",
        ),
    ],
)
def test_all_weights_are_found_under(renamed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model, weights = as_model(network()), other_weights()
    save_file({renamed(n, model): t for n, t in weights.items()}, tmp_path / "w.safetensors")
    found, lines = started(model, tmp_path / "w.safetensors")
    assert lines == [f"init: 6 of 6 weights start from {tmp_path / 'w.safetensors'}"]
    for ours, (theirs,) in model.names.items():
        assert torch.equal(found[ours], weights[theirs])


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = network()


def test_a_file_of_the_inner_module_fits_the_outer_one(tmp_path: Path) -> None:
    outer = Inner()
    model = as_model(outer, lambda m: [m.body[0], m.body[1], m.body[2], m.body[3]])  # type: ignore[index, union-attr]
    save_file(other_weights(), tmp_path / "w.safetensors")
    found, lines = started(model, tmp_path / "w.safetensors")
    assert lines[0].startswith("init: 6 of 6 weights")
    assert torch.equal(found["layers.2.weight"], other_weights()["2.weight"])


def test_what_does_not_match_is_reported_and_a_new_head_starts_anew(tmp_path: Path) -> None:
    weights = {**other_weights(), "extra": torch.zeros(2)}
    del weights["2.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    model = as_model(network(classes=4))
    before = own(model)
    found, lines = started(model, tmp_path)
    assert lines == [
        f"init: 3 of 6 weights start from {tmp_path}",
        "init: layers.1.0.bias is not in the file: the task's first values",
        "init: head.0.weight is 3 x 5 in the file and 4 x 5 here: the task's first values",
        "init: head.0.bias is 3 in the file and 4 here: the task's first values",
        "init: extra is in the file and not in the model: not used",
    ]
    for kept in ("layers.1.0.bias", "head.0.weight", "head.0.bias"):
        assert torch.equal(found[kept], before[kept])
    assert torch.equal(network(4)[0].weight, before["layers.0.0.weight"])  # type: ignore[arg-type]


def test_shards_and_half_precision(tmp_path: Path) -> None:
    weights = {n: t.to(torch.bfloat16) for n, t in other_weights().items()}
    parts = {"a.safetensors": list(weights)[:2], "b.safetensors": list(weights)[2:]}
    for file, names in parts.items():
        save_file({n: weights[n] for n in names}, tmp_path / file)
    where = {n: file for file, names in parts.items() for n in names}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    found, lines = started(as_model(network()), tmp_path)
    assert lines[0].startswith("init: 6 of 6")
    assert found["layers.0.0.weight"].dtype == torch.float32
    assert torch.equal(found["layers.0.0.weight"], weights["0.weight"].float())
    index.write_text(json.dumps({"weight_map": {"0.weight": "../a.safetensors"}}))
    with pytest.raises(JobError, match="names a file elsewhere"):
        WeightsFile.open(tmp_path)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no file or folder"):
        WeightsFile.open(tmp_path / "none")
    with pytest.raises(JobError, match=r"holds no model\.safetensors"):
        WeightsFile.open(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(JobError, match="is a pickle, which can run code; convert it once"):
        WeightsFile.open(tmp_path)
    cut_off = tmp_path / "cut.safetensors"
    save_file(other_weights(), cut_off)
    cut_off.write_bytes(cut_off.read_bytes()[:-7])
    with pytest.raises(JobError, match=r"cut\.safetensors cannot be read"):
        WeightsFile.open(cut_off)
    run = tmp_path / "run"
    run.mkdir()
    (run / "job.yaml").touch()
    with pytest.raises(JobError, match="is a run that has not ended; .*errorcast export"):
        WeightsFile.open(run)


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    model = as_model(network())
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(JobError, match=r"holds no weight of this model; it has a, the model"):
        started(model, tmp_path / "a.safetensors")
    save_file({**other_weights(), "0.weight": torch.zeros(9, 9)}, tmp_path / "b.safetensors")
    with pytest.raises(JobError, match=r"layers\.0\.0\.weight is 9 x 9 in the file and 5 x 4 here"):
        started(model, tmp_path / "b.safetensors")


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    """Without their scales they are other numbers."""
    file = tmp_path / "w.safetensors"
    save_file({name: weight.to(kind) for name, weight in other_weights().items()}, file)
    with pytest.raises(
        JobError, match=r"layers\.0\.0\.weight is quantised .* give weights in float"
    ):
        started(as_model(network()), file)


def test_what_a_factory_returned_stays_as_it_is(tmp_path: Path) -> None:
    net = network()
    save_file(other_weights(), tmp_path / "w.safetensors")
    started(as_model(net), tmp_path / "w.safetensors")
    assert torch.equal(net[0].weight, network()[0].weight)  # type: ignore[arg-type]


@given(st.sets(st.sampled_from(["layers.0.*", "layers.[01].*", "head.0.bias", "2.weight", "*"])))
def test_frozen_patterns_freeze_what_they_name(patterns: set[str]) -> None:
    model = as_model(network())
    freeze = Freeze(tuple(patterns), model.names)
    freeze.check(model.names)
    built = replace(model, preparations=(freeze,))
    modules = [("layers.0", built.build_layer(0, 0)), ("layers.1", built.build_layer(1, 0))]
    modules.append(("head", built.build_head(0)))
    fits = {
        "layers.0.*": {"layers.0.0.weight", "layers.0.0.bias"},
        "layers.[01].*": {f"layers.{i}.0.{n}" for i in (0, 1) for n in ("weight", "bias")},
        "head.0.bias": {"head.0.bias"},
        "2.weight": {"layers.1.0.weight"},
        "*": set(model.names),
    }
    expected = set().union(*(fits[pattern] for pattern in patterns))
    found = {f"{p}.{n}" for p, m in modules for n, w in m.named_parameters() if not w.requires_grad}
    assert found == expected


@pytest.mark.parametrize(("pattern", "moves"), [("layers.0.*", False), ("head.*", True)])
def test_a_frozen_batch_normalisation_keeps_its_statistics(pattern: str, moves: bool) -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    model = as_model(net)
    layer = replace(model, preparations=(Freeze((pattern,), model.names),)).build_layer(0, 0)
    layer(torch.randn(6, 4) + 3)
    assert bool(layer.state_dict()["1.running_mean"].any()) == moves


def test_a_pattern_that_names_nothing_is_refused() -> None:
    model = as_model(network())
    with pytest.raises(JobError, match=r"no weight is named layer\.0; the model has layers"):
        Freeze(("layer.0",), model.names).check(model.names)
