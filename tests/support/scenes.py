"""Makes small scenes for view synthesis."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_scene(folder: Path, views: int = 9, side: int = 8) -> Path:
    """Write a scene in Blender's form: red images, the less transparent the farther away."""
    folder.mkdir()
    frames = []
    for view in range(views):
        Image.new("RGBA", (side, side), (255, 0, 0, 28 * view)).save(folder / f"r_{view}.png")
        pose = np.eye(4)
        pose[2, 3] = 4.0 + view
        frames.append({"file_path": f"./r_{view}", "transform_matrix": pose.tolist()})
    cameras = {"camera_angle_x": 0.7, "frames": frames}
    (folder / "transforms_train.json").write_text(json.dumps(cameras))
    return folder
