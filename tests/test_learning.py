"""It learns: small settings that distinguish the methods, and the bars that the documents state.

The small ones train by the reference in this process; other tests hold the pipeline to its bits.
The bars of README and docs/results/images.md are under `make endurance`.
"""

from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from support.learning import accuracy

from coordinator import Run, train


@pytest.mark.trains
def test_digits() -> None:
    small: dict[str, Any] = {"options": {"width": 128}, "epochs": 15}
    dfa, shallow = (accuracy("digits", method=method, **small) for method in ("dfa", "shallow"))
    assert dfa >= 95
    assert shallow <= dfa - 8


@pytest.mark.trains
@pytest.mark.parametrize(
    ("method", "least", "most"), [("dfa", 75, 100), ("bp", 81, 100), ("shallow", 0, 70)]
)
def test_fashion_mnist(real_data: Path, method: str, least: float, most: float) -> None:
    """One epoch of layers of 256."""
    small: dict[str, Any] = {"options": {"width": 256}, "epochs": 1, "data_dir": str(real_data)}
    assert least <= accuracy("fashion-mnist", method=method, **small) <= most


@pytest.mark.trains
def test_residual_identity_against_random_feedback(real_data: Path) -> None:
    """One epoch of residual blocks of 64."""
    small: dict[str, Any] = {"options": {"width": 64}, "epochs": 1, "data_dir": str(real_data)}
    identity, random = (
        accuracy("fashion-mnist-residual", feedback={"kind": kind}, **small)
        for kind in ("identity", "random")
    )
    assert identity >= 81
    assert random <= identity - 10


@pytest.mark.trains
@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("digits-resnet", {"blocks": 3, "points": 1}),
        ("digits-vit", {"blocks": 2, "width": 48, "hidden": 96}),
    ],
)
def test_images_with_a_residual_stream(task: str, options: dict[str, int]) -> None:
    small: dict[str, Any] = {"options": options, "epochs": 8, "optimizer": {"lr": 2e-3}}
    identity, random = (
        accuracy(task, feedback={"kind": kind}, **small) for kind in ("identity", "random")
    )
    assert identity >= 91
    assert random <= identity - 10


def percent(run: Run) -> float:
    return 100 * run.metrics["accuracy"]


@pytest.mark.endurance
@pytest.mark.timeout(300)
def test_digits_as_documented(a_ray: None, tmp_path: Path) -> None:
    """>= 97% test accuracy (mean of 3 seeds); training the head alone is >= 3 points worse."""
    scores = {
        method: mean(
            percent(train("digits", method=method, seed=seed, run_dir=tmp_path / f"{method}{seed}"))
            for seed in range(3)
        )
        for method in ("dfa", "shallow")
    }
    assert scores["dfa"] >= 97
    assert scores["shallow"] <= scores["dfa"] - 3


@pytest.mark.endurance
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("method", "least", "most"), [("dfa", 87.5, 100), ("bp", 88, 100), ("shallow", 0, 84)]
)
def test_fashion_mnist_as_documented(
    a_ray: None, real_data: Path, tmp_path: Path, method: str, least: float, most: float
) -> None:
    """3 tanh layers of 1024, Adam 5e-4, batch 256, 8 epochs."""
    run = train("fashion-mnist", method=method, data_dir=real_data, run_dir=tmp_path / "run")
    assert run.job.spec.epochs == 8
    assert run.job.spec.batch_size == 256
    assert least <= percent(run) <= most


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_residual_identity_against_random_feedback_as_documented(
    a_ray: None, real_data: Path, tmp_path: Path
) -> None:
    """4 pre-norm residual blocks of 256, 4 epochs: identity >= 87%, random 4 points lower."""
    scores = {
        kind: percent(
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


@pytest.mark.endurance
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("network", "least", "behind"), [("resnet", 89, 3), ("vit", 86.5, 1)], ids=["resnet", "vit"]
)
def test_images_with_a_residual_stream_as_documented(
    real_data: Path, network: str, least: float, behind: float
) -> None:
    """Two epochs of Fashion-MNIST, by the reference: identity, and how far random is behind it."""
    identity, random = (
        accuracy(f"fashion-mnist-{network}", feedback={"kind": kind}, data_dir=str(real_data))
        for kind in ("identity", "random")
    )
    assert identity >= least
    assert random <= identity - behind
