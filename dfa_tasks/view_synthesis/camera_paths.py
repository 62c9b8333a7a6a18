"""Paths of a camera around a scene: poses (n, 3, 4), camera to world."""

from math import pi

import torch
from torch import Tensor

from dfa_tasks.view_synthesis.scene import Scene


def looking(at: Tensor, origins: Tensor, up: Tensor) -> Tensor:
    """Return poses of cameras at `origins`, (n, 3), that look at a point; up: (3,), upwards."""
    back = torch.nn.functional.normalize(origins - at, dim=1)
    right = torch.nn.functional.normalize(torch.linalg.cross(up.expand_as(back), back), dim=1)
    above = torch.linalg.cross(back, right)
    return torch.stack([right, above, back, origins], dim=2)


def orbit(scene: Scene, frames: int, azimuth: float, elevation: float) -> Tensor:
    """Return a circle around the origin, at the cameras' mean distance; z is up.

    azimuth: start of the circle, in degrees. elevation: of the camera above the plane, in degrees.
    """
    radius = scene.train.poses[:, :, 3].norm(dim=1).mean()
    around = azimuth * pi / 180 + 2 * pi * torch.arange(frames) / frames
    down = torch.tensor(elevation * pi / 180)
    flat = torch.stack([around.cos(), around.sin()], dim=1) * down.cos()
    height = down.sin().expand(frames, 1)
    origins = radius * torch.cat([flat, height], dim=1)
    return looking(torch.zeros(3), origins, torch.tensor([0.0, 0.0, 1.0]))


def spiral(scene: Scene, frames: int) -> Tensor:
    """Return a spiral path around the mean camera of a forward-facing scene."""
    wide = scene.train.poses[:, :, 3].abs().quantile(0.8, dim=0)
    turns = 2 * pi * torch.arange(frames) / frames
    sway = torch.stack([turns.cos(), -turns.sin(), -(turns / 2).sin()], dim=1)
    focus = torch.tensor([0.0, 0.0, -4.0])  # the scene begins at z = -1; z is in 1 / depth
    return looking(focus, sway * wide, torch.tensor([0.0, 1.0, 0.0]))
