"""It learns: the bars that README and docs/performance.md state, on real data."""

from pathlib import Path
from statistics import mean

import pytest

from coordinator import Run, train


def accuracy(run: Run) -> float:
    return 100 * run.metrics["accuracy"]


@pytest.mark.timeout(300)
def test_digits(a_ray: None, tmp_path: Path) -> None:
    """>= 97% test accuracy (mean of 3 seeds); training the head alone is >= 3 points worse."""
    scores = {
        method: mean(
            accuracy(
                train("digits", method=method, seed=seed, run_dir=tmp_path / f"{method}{seed}")
            )
            for seed in range(3)
        )
        for method in ("dfa", "shallow")
    }
    assert scores["dfa"] >= 97
    assert scores["shallow"] <= scores["dfa"] - 3


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("method", "least", "most"),
    [
        ("dfa", 87.5, 100),
        pytest.param("bp", 88, 100, marks=pytest.mark.endurance),
        pytest.param("shallow", 0, 84, marks=pytest.mark.endurance),
    ],
)
def test_fashion_mnist(
    a_ray: None, real_data: Path, tmp_path: Path, method: str, least: float, most: float
) -> None:
    """3 tanh layers of 1024, Adam 5e-4, batch 256, 8 epochs."""
    run = train("fashion-mnist", method=method, data_dir=real_data, run_dir=tmp_path / "run")
    assert run.job.spec.epochs == 8
    assert run.job.spec.batch_size == 256
    assert least <= accuracy(run) <= most


@pytest.mark.timeout(600)
def test_residual_identity_against_random_feedback(
    a_ray: None, real_data: Path, tmp_path: Path
) -> None:
    """4 pre-norm residual blocks of 256, 4 epochs: identity >= 87%, random 4 points lower."""
    scores = {
        kind: accuracy(
            train(
                "fashion-mnist-residual",
                feedback={"kind": kind},
                data_dir=real_data,
                run_dir=tmp_path / kind,
            )
        )
        for kind in ("identity", "random")
    }
    assert scores["identity"] >= 87
    assert scores["random"] <= scores["identity"] - 4
