"""`errorcast tsne`: hidden features in two dimensions."""

from pathlib import Path

import pytest
import torch
from support.command_line import run_errorcast
from support.in_process import train_here

from coordinator.inspection.embedding import embed
from coordinator.inspection.saved_run import open_run


@pytest.mark.trains
def test_a_panel_for_each_run(digits_run: Path, tmp_path: Path) -> None:
    train_here("digits", tmp_path / "shallow", method="shallow", epochs=1, options={"width": 32})
    features, classes = open_run(digits_run).hidden()
    first, _ = open_run(digits_run).hidden(0)
    assert features.shape == first.shape == (360, 32)
    assert not torch.equal(features, first)
    assert classes.unique().tolist() == list(range(10))
    runs = (str(digits_run), "shallow")
    done = run_errorcast("tsne", *runs, "--layer", "1", "-o", "both.png", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "both.png").read_bytes()[:4] == b"\x89PNG"
    done = run_errorcast("tsne", *runs[:1], "--layer", "3", "-o", "none.png", cwd=tmp_path)
    assert done.code == 2
    assert done.err == "errorcast: --layer: 3 is not between 0 and 2\n"
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
