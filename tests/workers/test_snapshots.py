import numpy as np
import pytest
import torch
from torch import nn

from dfa_core import LearningRule, OptimizerSpec
from dfa_core.layer import Layer
from workers.snapshots import PackedTensor, pack, restore


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([[1.5, float("nan")], [-0.0, 3e38]]),
        torch.arange(6, dtype=torch.bfloat16).reshape(3, 2),
        torch.tensor(7, dtype=torch.int64),
        torch.zeros(0, 4),
        torch.tensor([True, False]),
    ],
)
def test_a_tensor_of_any_kind_keeps_its_bits(tensor: torch.Tensor) -> None:
    packed = PackedTensor.of(tensor)
    assert packed.data.dtype == np.uint8
    back = packed.tensor()
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(back.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_a_layer_goes_back_to_its_snapshot_and_does_the_same_again() -> None:
    rule = LearningRule(optimizer=OptimizerSpec("adam", 0.1))
    torch.manual_seed(0)
    layer = Layer(0, nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh()), rule)

    def step(number: int) -> None:
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(number))
        layer.forward(x, number, 0).square().sum().backward()
        layer.apply_gradients(number)

    step(0)
    snapshot = pack([layer])
    step(1)
    once = layer.state()[0]
    layer.forward(torch.randn(5, 4), 2, 0).sum().backward()  # a step that is not finished
    layer.go_back()
    restore([layer], snapshot)
    step(1)
    again = layer.state()[0]
    assert once.keys() == again.keys()
    assert all(torch.equal(once[key], again[key]) for key in once)
