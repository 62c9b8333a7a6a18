import pytest
import torch
from support.networks import NETWORKS
from torch import nn

from dfa_core import JobError, Model, as_model


def test_a_sequential_is_cut_before_each_child_that_maps() -> None:
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(6, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    )
    model = as_model(net)
    parts = [model.build_layer(i, 0) for i in range(2)] + [model.build_head(0)]
    names = [[type(child).__name__ for child in part] for part in parts]
    assert names == [
        ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout"],
        ["Linear", "Tanh"],
        ["Linear"],
    ]
    net.eval()
    x = torch.randn(4, 8)
    assert torch.equal(nn.Sequential(*parts).eval()(x), net(x))
    assert parts[1][0].weight is not net[5].weight  # trained apart from the one that was given


@pytest.mark.parametrize(
    "net", [nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.ReLU()), nn.Sequential()]
)
def test_too_little_for_a_layer_and_a_head(net: nn.Sequential) -> None:
    with pytest.raises(JobError, match="at least one layer and a head"):
        as_model(net)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(JobError, match="not Linear"):
        as_model(nn.Linear(2, 2))  # type: ignore[arg-type]


def test_weights_depend_on_seed_and_layer_alone() -> None:
    model = NETWORKS["mlp"]
    torch.manual_seed(1)
    first = model.build_layer(2, seed=5)[0].weight
    torch.manual_seed(2)
    model.build_layer(0, seed=5)
    assert torch.equal(model.build_layer(2, seed=5)[0].weight, first)
    assert not torch.equal(model.build_layer(2, seed=6)[0].weight, first)
    same = Model((model.layers[0], model.layers[0]), model.head)
    assert not torch.equal(same.build_layer(0, 5)[0].weight, same.build_layer(1, 5)[0].weight)


def test_building_leaves_the_callers_random_stream_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    NETWORKS["mlp"].build_layer(0, seed=5)
    assert torch.equal(torch.rand(2), expected)
