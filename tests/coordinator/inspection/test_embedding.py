"""`errorcast tsne`: hidden features in two dimensions."""

from pathlib import Path

import pytest
import torch
from test_method_comparison import run

from coordinator import train
from coordinator.inspection.embedding import embed
from coordinator.inspection.saved_run import open_run


def test_a_panel_for_each_run(
    a_ray: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for method in ("bp", "shallow"):
        train("digits", method=method, epochs=1, options={"width": 32}, run_dir=tmp_path / method)
    features, classes = open_run(tmp_path / "bp").hidden()
    first, _ = open_run(tmp_path / "bp").hidden(0)
    assert features.shape == first.shape == (360, 32)
    assert not torch.equal(features, first)
    assert classes.unique().tolist() == list(range(10))
    assert run(monkeypatch, "tsne", "bp", "shallow", "--layer", "1", "-o", "both.png") == 0
    assert (tmp_path / "both.png").read_bytes()[:4] == b"\x89PNG"
    capfd.readouterr()
    assert run(monkeypatch, "tsne", "bp", "--layer", "3", "-o", "none.png") == 2
    assert capfd.readouterr().err == "errorcast: --layer: 3 is not between 0 and 2\n"
    assert not (tmp_path / "none.png").exists()


def test_the_same_features_give_the_same_points_and_clusters_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(90) % 3
    classes[:6] = -1
    features = torch.randn(90, 5, generator=generator) + 20 * classes.unsqueeze(1)
    points, kept = embed(features, classes)
    assert torch.equal(kept, classes[6:])
    assert torch.equal(points, embed(features, classes)[0])
    middles = torch.stack([points[kept == c].mean(dim=0) for c in range(3)])
    nearest = torch.cdist(points, middles).argmin(dim=1)
    assert torch.equal(nearest, kept)
