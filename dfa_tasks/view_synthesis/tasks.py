"""The tasks of view synthesis: from photographs of a scene to new views of it."""

import inspect
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from dfa_core import JobError
from dfa_tasks.download import cache_folder, data_folder
from dfa_tasks.options import check_options, settings_of
from dfa_tasks.task import Installed, Splits, Task
from dfa_tasks.view_synthesis.blender_scene import FAR, NEAR, read_blender
from dfa_tasks.view_synthesis.llff_scene import read_llff
from dfa_tasks.view_synthesis.nerf import Bounds, Trunk, nerf
from dfa_tasks.view_synthesis.rays import NUMBERS, rays_of_scene
from dfa_tasks.view_synthesis.scene import Scene

_FOLDER = "nerf-synthetic"
_POINTS = 200_000  # of both networks, that an evaluation has in memory at once
_BLENDER, _LLFF = "transforms_train.json", "poses_bounds.npy"


@dataclass(frozen=True)
class Photographs:
    """The data of a scene; size: width of its images in pixels, 0 keeps the original."""

    folder: str
    size: int

    def scene(self) -> Scene:
        """Return the scene; only the first call reads it."""
        return load_scene(self.folder, self.size)

    def __call__(self) -> Splits:
        """Return the pixels of all views; those of the first held-out view are for validation."""
        scene = self.scene()
        train, test = rays_of_scene(scene)
        seen, hidden = _pixels(train, scene.train.images), _pixels(test, scene.test.images)
        return Splits(seen, hidden, _pixels(test[:1], scene.test.images[:1]))


def view_task(trunk: Trunk, data_dir: str = "", method: str = "dfa", **options: Any) -> Task:
    """Return a neural radiance field.

    options: scene, the name of its folder; size, the width of its images in pixels (0 keeps the
        original); and those of the networks: layers, width, coarse, fine.

    Raises JobError for an unknown option, and when there is no such scene.
    """
    known = [n for n in inspect.signature(nerf).parameters if n not in ("bounds", "trunk")]
    check_options("nerf", options, ("scene", "size", *known))
    settings = settings_of("view_synthesis")[trunk]
    chosen = {**settings["options"], **options}
    folder = scene_folder(str(chosen.pop("scene")), data_dir)
    photographs = Photographs(str(folder), int(chosen.pop("size")))
    bounds = Bounds(0.0, 1.0) if (folder / _LLFF).is_file() else Bounds(NEAR, FAR)
    return Task(
        model=nerf(bounds, trunk, **chosen),
        loss=both_losses,
        data=photographs,
        metrics={},
        global_metrics={
            "psnr": partial(mean_of_views, "peak_signal_noise_ratio", photographs),
            "ssim": partial(mean_of_views, "structural_similarity", photographs),
        },
        error_at="input",
        sample_dims=2,
        evaluated_at_once=max(1, _POINTS // (2 * int(chosen["coarse"]) + int(chosen["fine"]))),
        defaults={**settings["defaults"], **settings["by_method"].get(method, {})},
    )


def scene_folder(scene: str, data_dir: str) -> Path:
    """Return a scene's folder: in data_dir or ERRORCAST_DATA, in nerf-synthetic there, or cached.

    Raises JobError, which says what to put where, when there is none.
    """
    given = data_folder(data_dir)
    roots = [given, given / _FOLDER] if given is not None else []
    for root in [*roots, cache_folder() / _FOLDER]:
        if any((root / scene / name).is_file() for name in (_BLENDER, _LLFF)):
            return (root / scene).absolute()
    raise JobError(
        f"options.scene: there is no scene '{scene}' on this machine; put its folder, with "
        f"{_BLENDER} (NeRF's synthetic scenes: https://www.matthewtancik.com/nerf) or {_LLFF} "
        f"(LLFF), into {cache_folder() / _FOLDER}, or set the folder above it with --data-dir or "
        f"ERRORCAST_DATA"
    )


@cache
def load_scene(folder: str, size: int) -> Scene:
    """Read a scene in either format, with images `size` pixels wide (0: unchanged)."""
    read = read_llff if (Path(folder) / _LLFF).is_file() else read_blender
    return read(Path(folder), size)


def _pixels(rays: Tensor, images: Tensor) -> TensorDataset:
    return TensorDataset(rays.reshape(-1, NUMBERS), images.reshape(-1, 3))


def both_losses(seen: Tensor, target: Tensor) -> Tensor:
    """Return the sum of the mean squared errors of the coarse and of the fine colours (eq. 6).

    seen: (n, 2, 3); target: (n, 3).
    """
    mse = nn.functional.mse_loss
    return mse(seen[:, 0], target) + mse(seen[:, 1], target)


def mean_of_views(measure: str, data: Photographs, seen: Tensor, target: Tensor) -> float:
    """Return the mean over complete views of a score of skimage.metrics, of the fine colours.

    seen: (n, 2, 3); target: (n, 3); n: the pixels of one or more complete views.
    """
    height, width = data.scene().test.images.shape[1:3]
    shape = (-1, height, width, 3)
    views = zip(target.reshape(shape), seen[:, 1].reshape(shape), strict=True)
    return float(torch.tensor([score(measure, *pair) for pair in views]).mean())


def score(measure: str, truth: Tensor, seen: Tensor) -> float:
    """Return a score of skimage.metrics for images (h, w, 3) in [0, 1]; higher is more similar."""
    from skimage import metrics  # noqa: PLC0415  # takes a second

    axis = {"channel_axis": 2} if measure == "structural_similarity" else {}
    found = getattr(metrics, measure)(truth.numpy(), seen.numpy(), data_range=1.0, **axis)
    return float(found)


INSTALLED = {
    "nerf": Installed(partial(view_task, "plain"), "NeRF's lego at 100x100: the authors' network"),
    "nerf-residual": Installed(
        partial(view_task, "residual"), "NeRF's lego at 100x100: residual stream, identity feedback"
    ),
}
