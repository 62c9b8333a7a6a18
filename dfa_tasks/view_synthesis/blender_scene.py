"""Reads scenes in the format of NeRF's synthetic data (Mildenhall 2020): transforms_*.json."""

import json
import math
from pathlib import Path
from typing import Any

from dfa_core import JobError
from dfa_tasks.view_synthesis.scene import Scene, Views, held_out, read_views

NEAR, FAR = 2.0, 6.0  # of all synthetic scenes


def read_blender(folder: Path, width: int) -> Scene:
    """Read a scene, with images `width` pixels wide (0: unchanged).

    Without transforms_test.json, every eighth view of the training data is held out.

    Raises JobError, with the file, for missing or invalid data.
    """
    train, angle, found = _read_split(folder, "train", width)
    pixels = width or found
    focal = 0.5 * pixels / math.tan(0.5 * angle)
    if not (folder / "transforms_test.json").is_file():
        return held_out(train, focal)
    test, _, other = _read_split(folder, "test", width)
    if other != found:
        raise JobError(
            f"{folder}: test images are {other} pixels wide, but training images {found}"
        )
    return Scene(train, test, focal)


def _read_split(folder: Path, split: str, width: int) -> tuple[Views, float, int]:
    path = folder / f"transforms_{split}.json"
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        angle = float(content["camera_angle_x"])
        frames = [
            (str(frame["file_path"]), frame["transform_matrix"]) for frame in content["frames"]
        ]
    except (OSError, ValueError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise JobError(
            f"{path}: lacks {error}; it must have camera_angle_x, and frames with file_path and "
            f"transform_matrix"
        ) from error
    if not frames:
        raise JobError(f"{path}: has no frames")
    if not 0 < angle < math.pi:
        raise JobError(f"{path}: camera_angle_x is {angle:g}, which is not an angle of view")
    paths = [_image(folder, name) for name, _ in frames]
    views, found = read_views(paths, [pose for _, pose in frames], width)
    return views, angle, found


def _image(folder: Path, name: str) -> Path:
    """Return the file of a frame's image, whose name may lack `.png`; it must be in the folder."""
    path = folder / (name if Path(name).suffix else f"{name}.png")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise JobError(f"{folder}: a frame names {name}, which is outside the scene's folder")
    return path
