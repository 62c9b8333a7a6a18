"""Memory of a received message is taken for another one only when nobody holds the first."""

import pytest
import torch

from dfa_core import TensorSpec
from workers.groups import message_memory
from workers.groups.message_memory import MessageMemory

SPEC = TensorSpec((5,), torch.float32)


def test_a_view_keeps_its_message() -> None:
    memory = MessageMemory()
    first = memory.tensor(SPEC, 4).fill_(1.0)
    address, kept = first.data_ptr(), first[1:, ::2].T
    del first
    second = memory.tensor(SPEC, 4).fill_(2.0)
    assert second.data_ptr() != address
    assert torch.equal(kept, torch.ones(3, 3))


def test_a_graph_keeps_its_message() -> None:
    memory, weight = MessageMemory(), torch.ones(5, requires_grad=True)
    x = memory.tensor(SPEC, 4).fill_(3.0)
    address, h = x.data_ptr(), (x * weight).sum()
    del x
    assert memory.tensor(SPEC, 4).data_ptr() != address
    h.backward()
    assert torch.equal(weight.grad, torch.full((5,), 12.0))


def test_free_memory_is_used_again() -> None:
    memory = MessageMemory()
    addresses = set()
    for _ in range(10):
        addresses.add(memory.tensor(SPEC, 4).data_ptr())
    assert len(addresses) == 1
    assert memory.tensor(SPEC, 3).data_ptr() not in addresses  # another size


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.int64, torch.float64])
def test_any_dtype_is_aligned(dtype: torch.dtype) -> None:
    made = MessageMemory().tensor(TensorSpec((3, 1), dtype), 7)
    assert (made.shape, made.dtype) == ((7, 3, 1), dtype)
    assert made.data_ptr() % 64 == 0
    assert MessageMemory().tensor(TensorSpec((0,), dtype), 7).shape == (7, 0)


def test_free_memory_can_be_poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_memory, "_POISONED", True)
    memory = MessageMemory()
    assert bool(memory.tensor(SPEC, 4).isnan().all())
    memory.tensor(SPEC, 4).fill_(1.0)
    assert bool(memory.tensor(SPEC, 4).isnan().all())
