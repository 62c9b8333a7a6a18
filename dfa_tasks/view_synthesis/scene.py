"""A scene: photographs with the pose of the camera of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dfa_core import JobError

EVERY = 8  # one view in eight is held out, as in NeRF's LLFF experiments


@dataclass(frozen=True)
class Views:
    """Photographs (n, h, w, 3), in [0, 1], and their cameras' poses (n, 3, 4).

    A pose takes camera to world; the camera looks along -z, with x to the right and y up.
    """

    images: Tensor
    poses: Tensor

    def at(self, chosen: Sequence[int]) -> "Views":
        """Return the chosen views."""
        return Views(self.images[list(chosen)], self.poses[list(chosen)])


@dataclass(frozen=True)
class Scene:
    """The views to train on, and the views held out for testing.

    focal: focal length, in pixels.
    ndc: whether rays are in normalised device coordinates, for forward-facing scenes without a far
        limit (Mildenhall 2020, appendix C).
    """

    train: Views
    test: Views
    focal: float
    ndc: bool = False


def held_out(views: Views, focal: float, ndc: bool = False) -> Scene:
    """Return a scene that holds out every eighth view, from the first one on.

    Raises JobError when there are fewer than two views.
    """
    test = range(0, len(views.poses), EVERY)
    train = [view for view in range(len(views.poses)) if view % EVERY]
    if not train:
        raise JobError("a scene needs at least two views, since every eighth one is held out")
    return Scene(views.at(train), views.at(test), focal, ndc)


def read_views(paths: Sequence[Path], poses: Sequence[Any], width: int) -> tuple[Views, int]:
    """Read photographs, resize them to a width in pixels, and check their poses.

    poses: (3, 4) or (4, 4) each.
    width: 0 keeps the size. Transparent pixels become white.

    Returns the views, and the original width.

    Raises JobError, with the file, for a missing or invalid image, for a singular pose, and for
    images of different sizes.
    """
    checked = [_pose(path, pose) for path, pose in zip(paths, poses, strict=True)]
    found, images = (0, 0), []
    for path in paths:
        image = _on_white(path)
        found = found if any(found) else image.size
        if image.size != found:
            raise JobError(
                f"{path}: is {image.width}x{image.height}, but {paths[0].name} {found[0]}x"
                f"{found[1]}; all images of a scene must have one size"
            )
        if width and width != found[0]:  # a new pixel is the mean of the pixels that it covers
            size = width, max(1, round(found[1] * width / found[0]))
            image = image.resize(size, Image.Resampling.BOX)
        images.append(torch.from_numpy(np.asarray(image, dtype=np.float32) / 255))
    return Views(torch.stack(images), torch.stack(checked)), found[0]


def _on_white(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            rgba = image.convert("RGBA")
    except FileNotFoundError as error:
        raise JobError(f"{path}: there is no such image, but the scene names it") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise JobError(f"{path}: is not an image that can be read: {error}") from error
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _pose(path: Path, pose: Any) -> Tensor:
    try:
        found = torch.tensor(np.asarray(pose, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise JobError(f"{path}: its pose is not a matrix of numbers") from error
    if found.dim() != 2 or found.shape[0] not in (3, 4) or found.shape[1] != 4:
        raise JobError(f"{path}: its pose must be a 3x4 or 4x4 matrix, not {tuple(found.shape)}")
    turn = found[:3, :3]
    if not bool(torch.isfinite(found).all()) or abs(float(torch.linalg.det(turn))) < 1e-6:
        raise JobError(f"{path}: its pose is singular, which no camera's pose can be")
    return found[:3].contiguous()
