"""Reads scenes in the form of LLFF (Mildenhall 2019): images/ and poses_bounds.npy."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfa_core import JobError
from dfa_tasks.view_synthesis.scene import Scene, Views, held_out, read_views

_ENDINGS = (".jpg", ".jpeg", ".png")
_CLOSER = 0.75  # the nearest thing comes to 1 / 0.75, behind the plane that rays start from


def read_llff(folder: Path, width: int) -> Scene:
    """Read a scene that faces forward, with images `width` pixels wide (0: as they are).

    Lengths are scaled so that all is behind the plane z = -1, and the mean camera is put at the
    origin, as the coordinates that the rays are brought into suppose.

    Raises JobError, with the file, for whatever is missing or broken.
    """
    path = folder / "poses_bounds.npy"
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 17:
        raise JobError(f"{path}: must have 17 numbers a view, not {rows.shape}")
    images = folder / "images"
    paths = sorted(p for p in images.glob("*") if p.suffix.lower() in _ENDINGS)
    if len(paths) != len(rows):
        raise JobError(f"{images}: has {len(paths)} images, but {path.name} {len(rows)} poses")
    if not bool(np.isfinite(rows).all()) or rows[:, 15].min() <= 0:
        raise JobError(f"{path}: holds numbers that are not finite, or depths that are not above 0")
    told = torch.from_numpy(rows[:, :15].astype(np.float32)).reshape(-1, 3, 5)
    # their cameras' axes are down, right, back; ours right, up, back
    poses = torch.cat([told[:, :, 1:2], -told[:, :, 0:1], told[:, :, 2:4]], dim=2)
    views, found = read_views(paths, list(poses.numpy()), width)
    focal = float(told[0, 2, 4]) * (width or found) / float(told[0, 1, 4])
    poses = views.poses.clone()
    poses[:, :, 3] /= float(rows[:, 15].min()) * _CLOSER
    return held_out(Views(views.images, _centred(poses)), focal, ndc=True)


def _centred(poses: Tensor) -> Tensor:
    """Return poses as the mean camera sees them; (n, 3, 4)."""
    back = poses[:, :, 2].sum(0)
    back = back / back.norm()
    right = torch.linalg.cross(poses[:, :, 1].sum(0), back)
    right = right / right.norm()
    turn = torch.stack([right, torch.linalg.cross(back, right), back], dim=1)
    centre = poses[:, :, 3].mean(0)
    return torch.cat([turn.T @ poses[:, :, :3], turn.T @ (poses[:, :, 3:] - centre[:, None])], 2)
