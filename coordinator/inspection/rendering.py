"""Renders views of a trained radiance field from any camera."""

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
        """Raises JobError when the run's task is not view synthesis."""
        data = run.job.task.data
        if not isinstance(data, Photographs):
            raise JobError(f"{name}: is a run of {run.job.task.name}, not of view synthesis")
        self.name, self._run = name, run
        self.scene: Scene = data.scene()

    def render(self, pose: Tensor, width: int) -> Tensor:
        """Return the image of a camera, (h, w, 3) in [0, 1]; pose: (3, 4), width: in pixels."""
        full_height, full_width = self.scene.train.images.shape[1:3]
        height = round(full_height * width / full_width)
        focal = self.scene.focal * width / full_width
        rays = rays_of(pose[None], height, width, focal, self.scene.ndc)
        at_once = self._run.job.task.evaluated_at_once
        chunks = torch.split(rays.reshape(height * width, -1), at_once)
        colours = torch.cat([self._run.outputs(chunk)[:, 1] for chunk in chunks])
        return colours.reshape(height, width, 3)


def poses_along(path: str, scene: Scene, frames: int, azimuth: float, elevation: float) -> Tensor:
    """Return the poses of a camera path, (frames, 3, 4).

    "held-out" takes at most `frames` of the held-out views, evenly spaced.

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
    """Return the indices of at most `frames` held-out views, evenly spaced."""
    views = len(scene.test.poses)
    return torch.linspace(0, views - 1, min(frames, views)).round().long()


def check_picture(path: Path) -> None:
    """Raise JobError when no image can be written to a path; rendering takes minutes."""
    if path.suffix.lower() not in Image.registered_extensions():
        raise JobError(f"-o {path}: '{path.suffix}' is not an image format; use .gif or .png")
    if not path.absolute().parent.is_dir():
        raise JobError(f"-o {path}: folder {path.parent} does not exist; create it first")


def write_frames(frames: Iterator[Tensor], path: Path, per_second: int) -> None:
    """Write images, (h, w, 3) in [0, 1], as an animation, or a single one as a still image."""
    first, *others = (
        Image.fromarray((frame.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        for frame in frames
    )
    if others:
        duration = 1000 // per_second
        first.save(path, save_all=True, append_images=others, duration=duration, loop=0)
    else:
        first.save(path)
