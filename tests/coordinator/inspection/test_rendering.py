"""`errorcast render`: a radiance field seen from elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.command_line import run_errorcast
from support.in_process import train_here
from support.scenes import write_scene

from coordinator.inspection.rendering import View, poses_along, write_frames
from coordinator.inspection.saved_run import open_run
from dfa_core import JobError

SETTINGS: dict[str, Any] = {
    "options": {
        "scene": "s", "size": 8, "layers": 2, "width": 16, "coarse": 8, "fine": 8,
    },
    "batch_size": 64,
    "microbatches": 2,
    "epochs": 40,
    "blocks": 1,
    "optimizer": {"lr": 5e-3},
}  # fmt: skip


@pytest.mark.trains
@pytest.mark.timeout(240)
def test_a_trained_scene_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "s")
    given = {**SETTINGS, "data_dir": str(tmp_path)}
    train_here("nerf", tmp_path / "dfa", **given)
    train_here("nerf-residual", tmp_path / "residual", **given)
    before = json.loads((tmp_path / "dfa" / "metrics.jsonl").read_text().splitlines()[0])
    scores = json.loads((tmp_path / "dfa" / "result.json").read_text())["metrics"]
    assert scores["loss"] < before["loss"]
    assert scores["psnr"] > 15
    assert 0 < scores["ssim"] <= 1

    done = run_errorcast(
        "render", "dfa", "residual", "--frames", "3", "--size", "12", "-o", "turn.gif"
    )
    assert done.code == 0, done.err
    with Image.open("turn.gif") as turn:
        assert (turn.n_frames, turn.size) == (3, (24, 12))  # type: ignore[attr-defined]
    done = run_errorcast("render", "dfa", "--path", "held-out", "-o", "views.png")
    assert done.code == 0, done.err
    with Image.open("views.png") as views:
        assert views.width > 300
    done = run_errorcast("render", "dfa", "--path", "held-out", "--frames", "1", "-o", "view.png")
    assert done.code == 0, done.err
    with Image.open("view.png") as view_of_one:
        assert view_of_one.height < views.height
    done = run_errorcast("render", "dfa", "--frames", "1", "-o", "one.png")
    assert done.code == 0, done.err
    with Image.open("one.png") as one:
        assert one.size == (8, 8)

    done = run_errorcast("evaluate", "residual", "--alignment")
    assert done.code == 0, done.err
    assert "ResidualBlock" in done.out

    view = View(open_run(tmp_path / "dfa", str(tmp_path)), "dfa")
    pose = poses_along("held-out", view.scene, 1, 0, 0)[0]
    seen = view.render(pose, 8)
    error = (seen - view.scene.test.images[0]).square().mean()
    assert -10 * float(torch.log10(error)) > 15

    done = run_errorcast("render", "dfa", "--path", "orbits")
    assert done.code == 2, done.err
    assert "errorcast: --path: unknown 'orbits'; did you mean orbit?" in done.err
    done = run_errorcast("render", "dfa", "--frames", "1", "-o", "view.jif")
    assert done.code == 2, done.err
    assert "-o view.jif: '.jif' is not an image format" in done.err
    done = run_errorcast("render", "dfa", "-o", "views/lego.gif")
    assert done.code == 2, done.err
    assert "folder views does not exist; create it first" in done.err
    (tmp_path / "s" / "r_3.png").unlink()
    done = run_errorcast(
        "train",
        "nerf",
        "--data-dir",
        str(tmp_path),
        "--run-dir",
        "other",
        "--set",
        "options.scene=s",
        "--set",
        "options.size=4",
    )
    assert done.code == 2, done.err
    said = done.err
    assert "r_3.png: there is no such image" in said
    assert "Traceback" not in said


def test_another_tasks_run_is_refused(digits_run: Path) -> None:
    with pytest.raises(JobError, match="digits: is a run of digits, not of view synthesis"):
        View(open_run(digits_run), "digits")


def test_frames_are_written_as_they_are(tmp_path: Path) -> None:
    frames = [torch.full((2, 3, 3), value) for value in (0.0, 1.5)]
    write_frames(iter(frames), tmp_path / "x.gif", per_second=10)
    with Image.open(tmp_path / "x.gif") as made:
        assert made.size == (3, 2)
        assert made.n_frames == 2  # type: ignore[attr-defined]
        made.seek(1)
        assert made.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
