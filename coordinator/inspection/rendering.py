"""What a trained radiance field looks like, from wherever."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from coordinator.inspection.saved_run import SavedRun
from dfa_core import JobError
from dfa_core.names import nearest
from dfa_tasks.view_synthesis.camera_paths import orbit, spiral
from dfa_tasks.view_synthesis.rays import rays_of
from dfa_tasks.view_synthesis.scene import Scene
from dfa_tasks.view_synthesis.tasks import Photographs

CameraPath = Literal["orbit", "spiral", "held-out"]


class View:
    """One run's radiance field."""

    def __init__(self, run: SavedRun, name: str) -> None:
        """Raises JobError when the run is not of view synthesis."""
        data = run.job.task.data
        if not isinstance(data, Photographs):
            raise JobError(f"{name}: is no run of view synthesis, but of {run.job.task.name}")
        self.name, self._run = name, run
        self.scene: Scene = data.scene()

    def render(self, pose: Tensor, width: int) -> Tensor:
        """Return what a camera sees, (h, w, 3) in [0, 1]; pose: (3, 4)."""
        high, wide = self.scene.train.images.shape[1:3]
        height = round(high * width / wide)
        focal = self.scene.focal * width / wide
        rays = rays_of(pose[None], height, width, focal, self.scene.ndc)
        at_once = self._run.job.task.evaluated_at_once
        parts = torch.split(rays.reshape(height * width, -1), at_once)
        seen = torch.cat([self._run.outputs(part)[:, 1] for part in parts])
        return seen.reshape(height, width, 3)


def poses_along(path: str, scene: Scene, frames: int, azimuth: float, elevation: float) -> Tensor:
    """Return the poses of a path; of the held-out views, every so-manyeth, `frames` at most.

    Raises JobError for an unknown path.
    """
    if path == "orbit":
        return orbit(scene, frames, azimuth, elevation)
    if path == "spiral":
        return spiral(scene, frames)
    if path == "held-out":
        return scene.test.poses[spread_out(scene, frames)]
    raise JobError(f"--path: unknown '{path}'; {nearest(path, get_args(CameraPath))}")


def spread_out(scene: Scene, frames: int) -> Tensor:
    """Return the numbers of held-out views that are spread over all of them."""
    views = len(scene.test.poses)
    return torch.linspace(0, views - 1, min(frames, views)).round().long()


def check_picture(path: Path) -> None:
    """Raise JobError, before minutes of rendering, where no picture can be written."""
    if path.suffix.lower() not in Image.registered_extensions():
        raise JobError(f"-o {path}: '{path.suffix}' is no kind of image; use .gif, or .png")
    if not path.absolute().parent.is_dir():
        raise JobError(f"-o {path}: there is no folder {path.parent}; make it first")


def write_frames(frames: Iterator[Tensor], path: Path, per_second: int) -> None:
    """Write images (h, w, 3) as an animation, or a single one as a picture."""
    first, *others = (
        Image.fromarray((frame.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        for frame in frames
    )
    if others:
        duration = 1000 // per_second
        first.save(path, save_all=True, append_images=others, duration=duration, loop=0)
    else:
        first.save(path)
