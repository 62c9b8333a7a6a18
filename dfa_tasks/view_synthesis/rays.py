"""The rays of a camera: one per pixel."""

import torch
from torch import Tensor

from dfa_tasks.view_synthesis.scene import Scene

NUMBERS = 9  # of a ray: origin, direction, and viewing direction of length 1


def rays_of(poses: Tensor, height: int, width: int, focal: float, ndc: bool) -> Tensor:
    """Return the rays of cameras' pixels, (n, h, w, 9).

    poses: (n, 3, 4), camera to world; focal: in pixels.
    """
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    seen = torch.stack(
        [(columns - 0.5 * width) / focal, -(rows - 0.5 * height) / focal, -torch.ones(rows.shape)],
        dim=-1,
    )
    directions = torch.einsum("hwc,nrc->nhwr", seen, poses[:, :, :3])
    origins = poses[:, None, None, :, 3].expand_as(directions)
    along = directions / directions.norm(dim=-1, keepdim=True)
    if ndc:
        origins, directions = to_ndc(origins, directions, height, width, focal)
    return torch.cat([origins, directions, along], dim=-1)


def to_ndc(
    origins: Tensor, directions: Tensor, height: int, width: int, focal: float, near: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return rays on which depths from 0 to 1 reach from the near plane to infinity.

    origins, directions: (..., 3), of cameras that look along -z (Mildenhall 2020, appendix C).
    """
    steps = -(near + origins[..., 2:]) / directions[..., 2:]
    x, y, z = (origins + steps * directions).unbind(-1)
    dx, dy, dz = directions.unbind(-1)
    across, up = 2 * focal / width, 2 * focal / height
    start = torch.stack([-across * x / z, -up * y / z, 1 + 2 * near / z], dim=-1)
    way = torch.stack([-across * (dx / dz - x / z), -up * (dy / dz - y / z), -2 * near / z], dim=-1)
    return start, way


def rays_of_scene(scene: Scene) -> tuple[Tensor, Tensor]:
    """Return the rays of the training and of the held-out views, (n, h, w, 9)."""
    height, width = scene.train.images.shape[1:3]
    train, test = (
        rays_of(views.poses, height, width, scene.focal, scene.ndc)
        for views in (scene.train, scene.test)
    )
    return train, test
