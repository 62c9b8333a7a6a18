"""Reads scenes in the format of LLFF (Mildenhall 2019): images/ and poses_bounds.npy."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfa_core import JobError
from dfa_tasks.view_synthesis.scene import Scene, Views, held_out, read_views

_ENDINGS = (".jpg", ".jpeg", ".png")
_CLOSER = 0.75  # scales the nearest depth to 1 / 0.75, beyond the plane z = -1 where rays start


def read_llff(folder: Path, width: int) -> Scene:
    """Read a forward-facing scene, with images `width` pixels wide (0: unchanged).

    The normalised device coordinates of the rays need two changes: lengths are scaled so that the
    whole scene is beyond the plane z = -1, and the mean camera moves to the origin.

    Raises JobError, with the file, for missing or invalid data.
    """
    path = folder / "poses_bounds.npy"
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 17:
        raise JobError(f"{path}: must have 17 numbers per view, not {rows.shape}")
    images = folder / "images"
    paths = sorted(p for p in images.glob("*") if p.suffix.lower() in _ENDINGS)
    if len(paths) != len(rows):
        raise JobError(f"{images}: has {len(paths)} images, but {path.name} {len(rows)} poses")
    if not bool(np.isfinite(rows).all()) or rows[:, 15].min() <= 0:
        raise JobError(f"{path}: has numbers that are not finite, or depths that are not above 0")
    stored = torch.from_numpy(rows[:, :15].astype(np.float32)).reshape(-1, 3, 5)
    # LLFF's camera axes are down, right, back; ours are right, up, back
    poses = torch.cat([stored[:, :, 1:2], -stored[:, :, 0:1], stored[:, :, 2:4]], dim=2)
    views, found = read_views(paths, list(poses.numpy()), width)
    focal = float(stored[0, 2, 4]) * (width or found) / float(stored[0, 1, 4])
    poses = views.poses.clone()
    poses[:, :, 3] /= float(rows[:, 15].min()) * _CLOSER
    return held_out(Views(views.images, _centred(poses)), focal, ndc=True)


def _centred(poses: Tensor) -> Tensor:
    """Return the poses, (n, 3, 4), relative to the mean camera."""
    back = poses[:, :, 2].sum(0)
    back = back / back.norm()
    right = torch.linalg.cross(poses[:, :, 1].sum(0), back)
    right = right / right.norm()
    turn = torch.stack([right, torch.linalg.cross(back, right), back], dim=1)
    centre = poses[:, :, 3].mean(0)
    return torch.cat([turn.T @ poses[:, :, :3], turn.T @ (poses[:, :, 3:] - centre[:, None])], 2)
