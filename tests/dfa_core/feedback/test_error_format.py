"""What blocks can read out of an error that was sent in fewer bytes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dfa_core import ErrorFormat, TensorSpec
from dfa_core.feedback.error_format import ErrorKind

KINDS: list[ErrorKind] = ["fp32", "bf16", "int8", "ternary", "topk"]


def read(form: ErrorFormat, error: Tensor) -> Tensor:
    """Send an error and read it, as a block does from a buffer of the announced size."""
    spec = TensorSpec.of(error)
    buffer = form.message(spec).empty(len(error))
    buffer.copy_(form.encode(error))
    return form.decode(buffer, spec)


@given(
    kind=st.sampled_from(KINDS),
    samples=st.integers(1, 5),
    rows=st.sampled_from([(), (3,), (2, 3)]),
    features=st.integers(1, 300),
    keep=st.floats(0.01, 1),
    seed=st.integers(0, 2**20),
)
def test_what_is_read_is_near_what_was_sent(
    kind: ErrorKind, samples: int, rows: tuple[int, ...], features: int, keep: float, seed: int
) -> None:
    shape = (samples, *rows, features)
    error = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    found = read(ErrorFormat(kind, keep), error)
    assert found.shape == error.shape
    assert found.dtype == torch.float32
    largest = error.abs().amax(-1, keepdim=True)
    match kind:
        case "fp32":
            assert torch.equal(found, error)
        case "bf16":
            assert torch.equal(found, error.bfloat16().float())
        case "int8":
            assert ((found - error).abs() <= largest / 127 * 0.501).all()
        case "ternary":
            assert ((found == 0) | (found.sign() == error.sign())).all()
            assert ((found == 0) | (found.abs() == largest)).all()
        case "topk":
            sent = found != 0
            kept = min(features, max(1, -int(-keep * features // 1)))
            assert (sent.sum(-1) == kept).all()
            assert torch.equal(found[sent], error[sent])
            least = torch.where(sent, error.abs(), torch.inf).amin(-1, keepdim=True)
            assert (error.abs()[~sent] <= least.expand_as(error)[~sent]).all()


def test_what_is_read_of_ternary_is_right_in_the_mean() -> None:
    """Each number is its row's largest magnitude with a chance of their ratio, else nothing."""
    torch.manual_seed(0)
    error = torch.tensor([[0.5, -3.0, 0.0, 4.0]]).expand(20000, 4)
    mean = read(ErrorFormat("ternary"), error).mean(0)
    assert torch.allclose(mean, error[0], atol=0.05)


@pytest.mark.parametrize(
    ("kind", "size"), [("fp32", 1200), ("bf16", 600), ("int8", 304), ("ternary", 79), ("topk", 180)]
)
def test_bytes_of_a_sample(kind: ErrorKind, size: int) -> None:
    """Of 300 numbers: int8 and ternary with a scale; of topk 30, each with a two-byte place."""
    assert ErrorFormat(kind, 0.1).message(TensorSpec((300,), torch.float32)).bytes == size


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_stays_so(kind: ErrorKind, bad: float) -> None:
    error = torch.zeros(3, 12)
    error[1, 4] = bad
    found = read(ErrorFormat(kind), error)
    assert not torch.isfinite(found[1]).all()
    assert torch.equal(found[[0, 2]], error[[0, 2]])
