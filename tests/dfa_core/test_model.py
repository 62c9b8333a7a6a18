from collections.abc import Callable

import pytest
import torch
from support.networks import NETWORKS
from torch import nn

from dfa_core import JobError, LearningRule, Model, Reference, as_model, profile


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


def test_an_activation_may_be_used_at_several_places() -> None:
    act = nn.Tanh()
    torch_net = nn.Sequential(nn.Linear(4, 5), act, nn.Linear(5, 6), act, act, nn.Linear(6, 2))
    model = as_model(torch_net)
    parts = [model.build_layer(0, 0), model.build_layer(1, 0), model.build_head(0)]
    assert [len(part) for part in parts] == [2, 3, 1]
    x = torch.randn(3, 4)
    assert torch.equal(nn.Sequential(*parts)(x), torch_net(x))


def tied() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    return net


def same_memory() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net[4].weight = nn.Parameter(net[0].weight.detach().T)
    return net


def same_layer() -> Model:
    one = nn.Linear(4, 4)
    return Model((lambda: one, lambda: nn.Sequential(one, nn.Tanh())), lambda: nn.Linear(4, 4))


def same_statistics() -> Model:
    norm = nn.BatchNorm1d(4, affine=False)
    layers = [nn.Sequential(nn.Linear(4, 4), norm) for _ in range(2)]
    return Model([lambda i=i: layers[i] for i in range(2)], lambda: nn.Linear(4, 4))


def embedding_and_vocabulary() -> Model:
    embedding, head = nn.Embedding(4, 4), nn.Linear(4, 4)
    head.weight = embedding.weight
    return Model((lambda: embedding,), lambda: head)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (tied, r"layer 0 \(Linear\+Tanh\) and layer 1 \(Linear\+Tanh\).*0.weight and 0.weight"),
        (same_memory, r"layer 0 .* and the head \(Linear\) share a weight"),
        (same_layer, r"layer 0 \(Linear\) and layer 1 .*\(weight and 0.weight\)"),
        (same_statistics, r"layer 0 .* and layer 1 .*1.running_mean and 1.running_mean"),
        (embedding_and_vocabulary, r"layer 0 \(Embedding\) and the head \(Linear\)"),
    ],
)
def test_weights_that_layers_share_are_refused_with_both_names(
    make: Callable[[], Model | nn.Sequential], names: str
) -> None:
    model = as_model(make())
    with pytest.raises(JobError, match=names):
        Reference(model, nn.functional.cross_entropy, LearningRule())


def test_layers_may_share_what_training_does_not_change() -> None:
    net = tied()
    net[0].weight.requires_grad_(False)
    norm = nn.BatchNorm1d(4).eval().requires_grad_(False)
    net = nn.Sequential(*net[:2], norm, *net[2:4], norm, net[4])
    Reference(as_model(net), nn.functional.cross_entropy, LearningRule())


def test_existing_modules_stay_as_they_are() -> None:
    layer, head = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Linear(4, 3)
    model = Model((lambda: layer,), lambda: head)
    before = [t.clone() for m in (layer, head) for t in m.state_dict().values()]
    x, target = torch.randn(8, 4), torch.randint(3, (8,))
    rule = LearningRule()
    profile(model, nn.functional.cross_entropy, rule, x, target)
    Reference(model, nn.functional.cross_entropy, rule).train_step(0, x, target)
    after = [t for m in (layer, head) for t in m.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for m in (layer, head) for p in m.parameters())


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo: object) -> "Uncopied":
        raise TypeError("it holds a lock")


def test_what_cannot_be_copied_is_used_once() -> None:
    fresh = Model((lambda: Uncopied(2, 2),), lambda: nn.Linear(2, 2))
    fresh.build_layer(0, 0)
    fresh.build_layer(0, 0)
    one = Uncopied(2, 2)
    existing = Model((lambda: one,), lambda: nn.Linear(2, 2))
    existing.build_layer(0, 0)
    with pytest.raises(JobError, match="the same Uncopied again, and it cannot be copied"):
        existing.build_layer(0, 0)


def test_weight_norm_of_a_given_module_is_copied() -> None:
    net = nn.Sequential(
        nn.utils.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.utils.weight_norm(nn.Linear(5, 2))
    )
    model = as_model(net)
    parts = [model.build_layer(0, 0), model.build_head(0)]
    x = torch.randn(3, 4)
    assert torch.equal(nn.Sequential(*parts)(x), net(x))


def test_each_submodule_keeps_its_mode() -> None:
    layer = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).eval(), nn.Dropout(0.5))
    model = Model((lambda: layer,), lambda: nn.Linear(4, 3))
    reference = Reference(model, nn.functional.cross_entropy, LearningRule())
    x, target = torch.randn(8, 4) + 5, torch.randint(3, (8,))
    reference.train_step(0, x, target)
    reference.evaluate(x)
    reference.train_step(1, x, target)
    linear, norm, dropout = reference.layers[0].module
    assert (linear.training, norm.training, dropout.training) == (True, False, True)
    assert torch.equal(norm.running_mean, torch.zeros(4))


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
