"""Scenes, rays, the volume renderer and the networks against what they should be."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.scenes import write_scene

from dfa_core import FeedbackSpec, JobError, LearningRule, Reference
from dfa_core.activations import tensors
from dfa_tasks.view_synthesis.blender_scene import read_blender
from dfa_tasks.view_synthesis.camera_paths import orbit, spiral
from dfa_tasks.view_synthesis.llff_scene import read_llff
from dfa_tasks.view_synthesis.nerf import Bounds, Trunk, encoded, nerf
from dfa_tasks.view_synthesis.rays import rays_of, to_ndc
from dfa_tasks.view_synthesis.tasks import both_losses, view_task
from dfa_tasks.view_synthesis.volume import colours, resampled, stratified, weights_of

BOUNDS = Bounds(2.0, 6.0)
TRUNKS: tuple[Trunk, ...] = ("plain", "residual")


def test_lego_as_it_is(real_data: Path) -> None:
    scene = read_blender(real_data / "nerf-synthetic" / "lego", 100)
    assert scene.train.images.shape == (87, 100, 100, 3)
    assert scene.test.images.shape == (13, 100, 100, 3)
    assert scene.focal == pytest.approx(138.8889, abs=1e-3)  # 1111.11 at 800 pixels
    assert not scene.ndc
    corner, middle = scene.test.images[0, 0, 0], scene.test.images[0, 45:55, 45:55].mean()
    assert corner.tolist() == [1.0, 1.0, 1.0]
    assert middle < 0.6
    turns = scene.train.poses[:, :, :3]
    assert torch.allclose(turns @ turns.mT, torch.eye(3).expand(87, 3, 3), atol=1e-5)


def test_transparent_is_white_and_pixels_are_means(tmp_path: Path) -> None:
    scene = read_blender(write_scene(tmp_path / "s"), 4)
    assert scene.train.images.shape == (7, 4, 4, 3)
    assert scene.test.poses[:, 2, 3].tolist() == [4.0, 12.0]
    assert torch.allclose(scene.test.images[0], torch.ones(3))
    expected = torch.tensor([1.0, 1 - 224 / 255, 1 - 224 / 255])
    assert torch.allclose(scene.test.images[1], expected, atol=1 / 255)


def broken_pose(folder: Path, pose: Any) -> None:
    path = folder / "transforms_train.json"
    told = json.loads(path.read_text())
    told["frames"][3]["transform_matrix"] = pose
    path.write_text(json.dumps(told))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing image": (lambda s: (s / "r_3.png").unlink(), "r_3.png: there is no such image"),
    "cut image": (
        lambda s: (s / "r_3.png").write_bytes(b"\x89PNG\r\n"),
        "r_3.png: is not an image",
    ),
    "two sizes": (
        lambda s: Image.new("RGB", (9, 8)).save(s / "r_3.png"),
        "r_3.png: is 9x8, but r_0.png 8x8; all images of a scene must have one size",
    ),
    "singular pose": (
        lambda s: broken_pose(s, [[0.0] * 4] * 4),
        "r_3.png: its pose is singular",
    ),
    "pose of text": (lambda s: broken_pose(s, [["a"]]), "r_3.png: its pose is not a matrix"),
    "flat pose": (lambda s: broken_pose(s, [[1.0, 2.0]]), "must be a 3x4 or 4x4 matrix"),
    "no JSON": (
        lambda s: (s / "transforms_train.json").write_text("{"),
        "transforms_train.json: cannot be read",
    ),
    "no frames": (
        lambda s: (s / "transforms_train.json").write_text(
            '{"camera_angle_x": 1, "frames": []}'
        ),
        "has no frames",
    ),
    "no angle": (lambda s: (s / "transforms_train.json").write_text("{}"), "lacks"),
    "outside": (
        lambda s: (s / "transforms_train.json").write_text(
            '{"camera_angle_x": 1, "frames": [{"file_path": "../x", "transform_matrix": []}]}'
        ),
        "outside the scene's folder",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_scene_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    scene = write_scene(tmp_path / "s")
    spoil, says = BROKEN[what]
    spoil(scene)
    with pytest.raises(JobError, match=says) as refused:
        read_blender(scene, 0)
    assert "\n" not in str(refused.value)


def test_a_scene_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no scene 'lego'"):
        view_task("plain", data_dir=str(tmp_path))


def write_llff(folder: Path, views: int = 9) -> Path:
    (folder / "images").mkdir(parents=True)
    rows = []
    for view in range(views):
        Image.new("RGB", (12, 8)).save(folder / "images" / f"{view:03}.jpg")
        axes = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # down, right, back of a level camera
        pose = np.concatenate([axes, [[view - 4.0], [0], [0]], [[8], [12], [10.0]]], axis=1)
        rows.append([*pose.ravel(), 2.0, 50.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder


def test_an_llff_scene(tmp_path: Path) -> None:
    scene = read_llff(write_llff(tmp_path / "s"), 6)
    assert scene.ndc
    assert scene.focal == pytest.approx(5.0)
    assert scene.train.images.shape == (7, 4, 6, 3)
    assert torch.allclose(scene.test.poses[0, :, :3], torch.eye(3), atol=1e-6)
    places = torch.cat([scene.test.poses, scene.train.poses])[:, 0, 3]
    assert torch.allclose(places.sort().values, torch.arange(-4.0, 5.0) / 1.5, atol=1e-6)
    assert scene.train.poses[:, 1:, 3].abs().max() < 1e-6
    poses = spiral(scene, 5)
    assert torch.allclose(torch.linalg.det(poses[:, :, :3]), torch.ones(5), atol=1e-5)
    assert (poses[:, 2, 2] > 0.5).all()  # all look ahead
    task = view_task("plain", data_dir=str(tmp_path), scene="s", size=6, coarse=3, fine=3)
    x, _ = task.splits().train[0]
    assert x.isfinite().all()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: (s / "images" / "003.jpg").unlink(), "has 8 images, but poses_bounds.npy 9"),
        (lambda s: np.save(s / "poses_bounds.npy", np.zeros((9, 4))), "17 numbers per view"),
        (lambda s: np.save(s / "poses_bounds.npy", np.zeros((9, 17))), "not above 0"),
        (lambda s: (s / "poses_bounds.npy").write_bytes(b"x"), "cannot be read"),
    ],
)
def test_a_broken_llff_scene(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    scene = write_llff(tmp_path / "s")
    spoil(scene)
    with pytest.raises(JobError, match=says):
        read_llff(scene, 0)


def test_rays_go_through_their_pixels() -> None:
    pose = torch.cat([torch.eye(3), torch.tensor([[0.0], [0.0], [4.0]])], dim=1)
    rays = rays_of(pose[None], 4, 6, 3.0, ndc=False)[0]
    assert rays.shape == (4, 6, 9)
    assert rays[2, 3, :6].tolist() == [0, 0, 4, 0, 0, -1]
    assert rays[0, 0, 3:6].tolist() == pytest.approx([-1, 2 / 3, -1])
    assert torch.allclose(rays[..., 6:].norm(dim=-1), torch.ones(4, 6))


def test_ndc_is_the_projection() -> None:
    """A point of a ray, projected, is the ray's point at t' (Mildenhall 2020, eq. 25)."""
    origin, way = torch.tensor([[0.1, -0.2, 0.0]]), torch.tensor([[0.3, 0.2, -1.0]])
    start, direction = to_ndc(origin, way, 8, 12, 10.0)
    for depth in (1.5, 4.0, 100.0):
        x, y, z = (origin + depth * way)[0]
        projected = torch.stack([-10 / 6 * x / z, -10 / 4 * y / z, 1 + 2 / z])
        along = 1 - 1 / depth  # from the near plane at depth 1
        assert torch.allclose(start[0] + along * direction[0], projected, atol=1e-5)


def test_an_even_fog_and_a_wall() -> None:
    depths = torch.linspace(2, 6, 401)[None]
    fog = torch.full((1, 401), 0.5)
    weights = weights_of(fog, depths, torch.ones(1), 6.0)
    assert float(weights.sum()) == pytest.approx(1 - math.exp(-2.0), abs=1e-5)
    raw = torch.full((1, 401, 4), -50.0)
    raw[0, 200:, :] = torch.tensor([50.0, -50.0, 0.0, 1e4])  # (1, 0, 0.5), nothing gets through
    assert torch.allclose(colours(raw, depths, torch.ones(1), 6.0)[0], torch.tensor([1.0, 0, 0.5]))
    raw[0, :, 3] = -1.0
    assert colours(raw, depths, torch.ones(1), 6.0)[0].tolist() == [1, 1, 1]


def test_the_renderers_gradient_is_exact() -> None:
    torch.manual_seed(0)
    torch.manual_seed(0)
    raw = torch.randn(3, 7, 4, dtype=torch.float64, requires_grad=True)
    depths = torch.rand(3, 7, dtype=torch.float64).sort(dim=1).values
    lengths = torch.ones(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: colours(x, depths, lengths, 1.0), raw)


@pytest.mark.parametrize("drawn", [False, True])
def test_more_points_where_the_weights_are(drawn: bool) -> None:
    torch.manual_seed(0)
    depths = stratified(torch.zeros(50, 9), 32, 2.0, 6.0, drawn)
    assert (depths.diff(dim=1) > 0).all()
    assert 2.0 <= depths.min() <= depths.max() <= 6.0
    weights = torch.zeros(50, 32)
    weights[:, 20] = 1.0
    found = resampled(depths, weights, 64, drawn)
    assert found.shape == (50, 96)
    assert (found.diff(dim=1) >= 0).all()
    near = (found - depths[:, 20:21]).abs() < 0.3
    assert near.sum(dim=1).min() > 60


def test_encoding() -> None:
    x = torch.tensor([[0.5, -1.0, 2.0]])
    found = encoded(x, 2)
    waves = [[math.sin(f * v) for v in x[0].tolist()] for f in (1, 2)]
    assert found[0, :9].tolist() == pytest.approx([*x[0].tolist(), *waves[0], *waves[1]], abs=1e-6)
    assert float(found[0, 9]) == pytest.approx(math.cos(0.5), abs=1e-6)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_only_the_last_gradients_are_exact(trunk: Trunk) -> None:
    """By identity or by the error itself, the last layers of both networks learn as by bp."""
    torch.manual_seed(0)
    torch.manual_seed(0)
    kind = "random" if trunk == "plain" else "identity"
    rule = LearningRule(error_at="input", sample_dims=2, feedback=FeedbackSpec(kind))  # type: ignore[arg-type]
    rays = torch.randn(6, 9)
    rays[:, 6:] = torch.nn.functional.normalize(rays[:, 3:6], dim=1)
    target = torch.rand(6, 3)
    found = {}
    for method in ("dfa", "bp"):
        model = nerf(BOUNDS, trunk, layers=3, width=8, coarse=4, fine=5)
        reference = Reference(model, both_losses, replace(rule, method=method))  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(1)
        for layer in reference.layers:  # a residual block begins as the identity
            for p in layer.weights():
                p.data.normal_(std=0.3, generator=generator)
        reference.add_gradients(0, rays, target)
        found[method] = reference
    number = len(found["dfa"].layers) // 2
    exact = {number - 1, 2 * number - 1}
    for index, (ours, theirs) in enumerate(
        zip(found["dfa"].layers, found["bp"].layers, strict=True)
    ):
        same = [
            torch.allclose(ours.parameters[n].grad, theirs.parameters[n].grad, atol=1e-7)  # type: ignore[arg-type]
            for n in ours.parameters
        ]
        assert all(same) == (index in exact), ours.label


@pytest.mark.parametrize("trunk", TRUNKS)
def test_each_network_learns_from_its_own_rows(trunk: Trunk) -> None:
    torch.manual_seed(0)
    kind = "random" if trunk == "plain" else "identity"
    rule = LearningRule(error_at="input", sample_dims=2, feedback=FeedbackSpec(kind))  # type: ignore[arg-type]
    model = nerf(BOUNDS, trunk, layers=2, width=8, coarse=4, fine=5)
    reference = Reference(model, both_losses, rule)
    x, outputs = torch.randn(3, 9), []
    for layer in reference.layers:
        x = layer.forward(x, 0, 0)  # type: ignore[assignment]
        outputs.append(x)
    error = torch.randn_like(tensors(x)[0])
    error[:, :4] = 0.0  # the coarse network has nothing to learn
    number = len(reference.layers) // 2
    for index, (layer, h) in enumerate(zip(reference.layers, outputs, strict=True)):
        learning, gradients = layer.learning_signals(error, h)
        torch.autograd.backward(learning, gradients, retain_graph=True)
        taught = any(bool(p.grad.abs().sum() > 0) for p in layer.parameters.values())  # type: ignore[union-attr]
        assert taught == (index >= number), layer.label


def test_an_orbit_looks_at_the_middle(tmp_path: Path) -> None:
    scene = read_blender(write_scene(tmp_path / "s"), 0)
    poses = orbit(scene, 8, azimuth=0.0, elevation=30.0)
    radius = float(scene.train.poses[:, :, 3].norm(dim=1).mean())
    assert torch.allclose(poses[:, :, 3], radius * poses[:, :, 2], atol=1e-5)
    assert torch.allclose(poses[:, 2, 3], torch.full((8,), radius / 2), atol=1e-5)
    assert torch.allclose(poses[:, 2, 0], torch.zeros(8), atol=1e-6)  # the horizon is level


def test_a_scene_may_have_test_views_of_its_own(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s")
    shutil.copy(scene / "transforms_train.json", scene / "transforms_test.json")
    found = read_blender(scene, 0)
    assert len(found.train.poses) == len(found.test.poses) == 9
