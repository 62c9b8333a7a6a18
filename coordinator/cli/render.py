"""`errorcast render`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import DataDir, RunFolders

Option = typer.Option
_ROWS = 3  # of a picture with the true images


def render(
    run_dirs: RunFolders,
    path: Annotated[
        str, Option(help="Camera path: orbit, spiral (for forward-facing scenes) or held-out.")
    ] = "orbit",
    out: Annotated[
        Path,
        Option(
            "--out",
            "-o",
            help="File to write: a .gif animation, or a .png with held-out views next to the true "
            "images.",
        ),
    ] = Path("view.gif"),
    frames: Annotated[int, Option(help="Number of views along the path.", min=1)] = 24,
    size: Annotated[
        int, Option(help="Width in pixels; 0: the width of the training images.", min=0)
    ] = 0,
    azimuth: Annotated[float, Option(help="Azimuth where an orbit begins, in degrees.")] = 0.0,
    elevation: Annotated[
        float, Option(help="Angle at which an orbit looks down, in degrees.")
    ] = 30.0,
    data_dir: DataDir = None,
) -> None:
    """Render new views of a scene with trained radiance fields.

    Examples:
        errorcast render runs/my-run --frames 24
        errorcast render runs/my-run --path held-out --out views.png
    """
    import torch
    from rich.progress import track

    from coordinator.cli.terminal import Terminal
    from coordinator.cli.warnings import show_warnings
    from coordinator.inspection.plots import draw_views
    from coordinator.inspection.rendering import (
        View,
        check_picture,
        poses_along,
        spread_out,
        write_frames,
    )
    from coordinator.inspection.saved_run import open_run

    check_picture(out)
    log = Terminal(stderr=True)
    runs = [open_run(folder, data_dir) for folder in run_dirs]
    show_warnings(line for run in runs for line in run.warnings)
    views = [View(run, folder.name) for run, folder in zip(runs, run_dirs, strict=True)]
    scene = views[0].scene
    truth = path == "held-out" and out.suffix == ".png"
    width = scene.train.images.shape[2] if truth or not size else size
    frames = min(frames, _ROWS) if truth else frames
    poses = poses_along(path, scene, frames, azimuth, elevation)
    seen = (
        [view.render(pose, width) for view in views]
        for pose in track(poses, "rendering", console=log, disable=not log.is_live)
    )
    if truth:
        true = scene.test.images[spread_out(scene, frames)]
        draw_views(list(zip(true, seen, strict=True)), [view.name for view in views], out)
    else:
        write_frames((torch.cat(row, dim=1) for row in seen), out, per_second=12)
    log.command(f"picture: {out}")
