import pytest
import torch

from dfa_core import Feedback, FeedbackSpec, JobError
from dfa_core.feedback.matrix import draw


@pytest.mark.parametrize(
    ("distribution", "spread"), [("uniform", 1 / 3**0.5), ("gaussian", 1.0), ("rademacher", 1.0)]
)
def test_distributions_have_their_moments(distribution: str, spread: float) -> None:
    entries = draw(distribution, 5, 100, 1000)  # type: ignore[arg-type]
    assert abs(entries.mean()) < 0.01
    assert entries.std() == pytest.approx(spread, rel=0.02)
    if distribution == "rademacher":
        assert set(entries.ravel()) == {-1.0, 1.0}
    if distribution == "uniform":
        assert entries.min() >= -1
        assert entries.max() < 1


@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "rademacher"])
def test_a_shared_matrix_gives_each_layer_its_first_columns(distribution: str) -> None:
    spec = FeedbackSpec(distribution=distribution, shared=True)  # type: ignore[arg-type]
    like = torch.zeros(1)
    wide = Feedback(spec, seed=1, layer=0).matrix(10, 67, like) * 67**0.5
    narrow = Feedback(spec, seed=1, layer=5).matrix(10, 31, like) * 31**0.5
    torch.testing.assert_close(wide[:, :31], narrow)
    own = FeedbackSpec(distribution=distribution)  # type: ignore[arg-type]
    a, b = (Feedback(own, 1, layer).matrix(10, 31, like) for layer in (0, 1))
    assert not torch.equal(a, b)


def test_scale_and_features_set_the_size() -> None:
    like = torch.zeros(1)
    one = Feedback(FeedbackSpec(), 1, 0).matrix(10, 64, like)
    assert float(one.abs().max()) <= 1 / 8
    torch.testing.assert_close(
        Feedback(FeedbackSpec(scale=3.0), 1, 0).matrix(10, 64, like), one * 3
    )


def test_projection_takes_the_shape_of_the_output() -> None:
    feedback = Feedback(FeedbackSpec(), seed=1, layer=0)
    error = torch.randn(4, 10)
    out = feedback.project(error, torch.zeros(4, 3, 5, 5))
    torch.testing.assert_close(out.flatten(1), error @ feedback.matrix(10, 75, error))


def test_tokens_are_samples_with_two_sample_dimensions() -> None:
    feedback = Feedback(FeedbackSpec(), seed=1, layer=0, sample_dims=2)
    error = torch.randn(4, 6, 10)
    out = feedback.project(error, torch.zeros(4, 6, 32))
    torch.testing.assert_close(out[2, 3], error[2, 3] @ feedback.matrix(10, 32, error))


def test_identity_is_the_error_itself() -> None:
    feedback = Feedback(FeedbackSpec(kind="identity"), seed=1, layer=0)
    error = torch.randn(4, 10)
    assert feedback.project(error, torch.zeros(4, 10)) is error
    with pytest.raises(JobError, match=r"layer 0: identity feedback needs .*\(4, 10\).*\(4, 11\)"):
        feedback.project(error, torch.zeros(4, 11))


def test_samples_that_do_not_match_are_named() -> None:
    with pytest.raises(JobError, match=r"layer 2: .*sample_dims"):
        Feedback(FeedbackSpec(), 1, 2, sample_dims=2).project(
            torch.zeros(4, 6, 10), torch.zeros(4, 5, 32)
        )
