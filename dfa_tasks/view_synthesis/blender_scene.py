"""Reads scenes in the form of NeRF's synthetic data (Mildenhall 2020): transforms_*.json."""

import json
import math
from pathlib import Path
from typing import Any

from dfa_core import JobError
from dfa_tasks.view_synthesis.scene import Scene, Views, held_out, read_views

NEAR, FAR = 2.0, 6.0  # of all its scenes


def read_blender(folder: Path, width: int) -> Scene:
    """Read a scene, with images `width` pixels wide (0: as they are).

    Without transforms_test.json, every eighth view of the training data is held out.

    Raises JobError, with the file, for whatever is missing or broken.
    """
    train, angle, found = _read_part(folder, "train", width)
    pixels = width or found
    focal = 0.5 * pixels / math.tan(0.5 * angle)
    if not (folder / "transforms_test.json").is_file():
        return held_out(train, focal)
    test, _, other = _read_part(folder, "test", width)
    if other != found:
        raise JobError(f"{folder}: its test images are {other} pixels wide, the others {found}")
    return Scene(train, test, focal)


def _read_part(folder: Path, part: str, width: int) -> tuple[Views, float, int]:
    path = folder / f"transforms_{part}.json"
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        angle = float(told["camera_angle_x"])
        frames = [(str(frame["file_path"]), frame["transform_matrix"]) for frame in told["frames"]]
    except (OSError, ValueError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise JobError(
            f"{path}: lacks {error}; it must have camera_angle_x, and frames with file_path and "
            f"transform_matrix"
        ) from error
    if not frames:
        raise JobError(f"{path}: names no frames")
    if not 0 < angle < math.pi:
        raise JobError(f"{path}: camera_angle_x is {angle:g}, which is no angle of view")
    paths = [_image(folder, name) for name, _ in frames]
    views, found = read_views(paths, [pose for _, pose in frames], width)
    return views, angle, found


def _image(folder: Path, name: str) -> Path:
    """Return a frame's image, which is named without its ending; it must lie in the scene."""
    path = folder / (name if Path(name).suffix else f"{name}.png")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise JobError(f"{folder}: a frame names {name}, which is outside of the scene's folder")
    return path
