"""`errorcast render`."""

from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option
_ROWS = 3  # of a picture with the truth


def render(
    run_dirs: Annotated[
        list[Path], typer.Argument(help="Folders of runs of view synthesis, side by side.")
    ],
    path: Annotated[
        str, Option(help="orbit, spiral (scenes that face forward), or held-out.")
    ] = "orbit",
    out: Annotated[
        Path, Option("--out", "-o", help="A .gif turns; a .png of held-out views has the truth.")
    ] = Path("view.gif"),
    frames: Annotated[int, Option(help="Views along the path.", min=1)] = 24,
    size: Annotated[int, Option(help="Pixels of width; 0: as in training.", min=0)] = 0,
    azimuth: Annotated[float, Option(help="Where an orbit begins, degrees.")] = 0.0,
    elevation: Annotated[float, Option(help="How steep it looks down, degrees.")] = 30.0,
    data_dir: Annotated[str | None, Option(help="Folder of the data sets.")] = None,
) -> None:
    """Show a scene from elsewhere, as trained radiance fields have it."""
    import sys

    import torch
    from rich.console import Console
    from rich.progress import track

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
    told = Console(file=sys.stderr)
    views = [View(open_run(folder, data_dir), folder.name) for folder in run_dirs]
    scene = views[0].scene
    truth = path == "held-out" and out.suffix == ".png"
    width = scene.train.images.shape[2] if truth or not size else size
    frames = min(frames, _ROWS) if truth else frames
    poses = poses_along(path, scene, frames, azimuth, elevation)
    seen = (
        [view.render(pose, width) for view in views]
        for pose in track(poses, "rendering", console=told)
    )
    if truth:
        true = scene.test.images[spread_out(scene, frames)]
        draw_views(list(zip(true, seen, strict=True)), [view.name for view in views], out)
    else:
        write_frames((torch.cat(row, dim=1) for row in seen), out, per_second=12)
    told.print(f"picture: {out}")
