"""Checkpoints that cannot lie: damaged, cut short, interrupted or out of room, none loads wrong."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from support.checkpoints import JOB, layers, write

from coordinator.runs.checkpoint import newest_checkpoint, write_checkpoint
from coordinator.runs.state import RunState
from dfa_core import JobError
from dfa_core.trained import TensorState
from workers.state_files import DamagedFile, NonFiniteWeights, write_state
from workers.storage import Folder, LocalFolder, RemoteFolder, open_folder


def is_right(folder: Folder, of_step: int | None = None) -> int:
    """The newest checkpoint that loads has the bits of its own step; returns the step."""
    rejected: dict[str, str] = {}
    while True:
        found, _ = newest_checkpoint(folder, rejected=rejected)
        assert found is not None
        try:
            states = {module: found.modules.read(module)[0] for module in found.modules.files}
            break
        except DamagedFile as damage:
            rejected[str(found)] = str(damage)
    assert of_step in (None, found.step)
    assert found.job == JOB
    for layer in layers(found.step):
        read: TensorState = states[layer.name]
        ours = layer.state()[0]
        assert read.keys() == ours.keys()
        assert all(torch.equal(read[key], ours[key]) for key in ours)
    return found.step


def test_any_flipped_bit_is_detected_or_harmless(tmp_path: Path) -> None:
    """2,000 positions over all files: the checkpoint before it is taken, or all is as written."""
    folder = LocalFolder(tmp_path)
    write(folder, 1)
    newest = Path(str(write(folder, 2)))
    files = sorted(newest.iterdir())
    assert [file.name for file in files] == [
        "layer-0000.safetensors",
        "layer-0001.safetensors",
        "manifest.json",
    ]
    positions = [(file, i) for file in files for i in range(file.stat().st_size)]
    rng = random.Random(0)
    harmless = 0
    for file, position in rng.sample(positions, min(2000, len(positions))):
        data = file.read_bytes()
        flipped = bytearray(data)
        flipped[position] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        step = is_right(folder)
        assert step in (1, 2)
        assert step == 1 or file.name == "manifest.json"
        harmless += step == 2
        file.write_bytes(data)
    assert is_right(folder, of_step=2)
    assert harmless < len(positions) / 10  # blanks of the manifest


def test_a_manifest_cut_at_any_length_does_not_count(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    write(folder, 1)
    manifest = Path(str(write(folder, 2))) / "manifest.json"
    data = manifest.read_bytes()
    for length in range(len(data)):
        manifest.write_bytes(data[:length])
        found, damages = newest_checkpoint(folder)
        assert found is not None
        assert found.step == 1, length
        assert len(damages) == 1
        assert "step-000000002/manifest.json: " in damages[0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    (Path(str(write(folder, 2))) / "layer-0001.safetensors").unlink()
    found, damages = newest_checkpoint(folder)
    assert found is None
    assert "step-000000002/layer-0001.safetensors: cannot be read" in damages[0]


def test_another_version_says_so(tmp_path: Path) -> None:
    manifest = Path(str(write(LocalFolder(tmp_path), 2))) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    _, damages = newest_checkpoint(LocalFolder(tmp_path))
    assert damages[0].endswith("has format 1, this version reads 2")


def test_the_newest_are_kept_and_leftovers_tidied(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    (tmp_path / "step-000000001").mkdir()  # a process was killed while it wrote
    for step in (1, 2, 3, 3):
        write(folder, step, keep=2)
    assert sorted(folder.names()) == ["step-000000003", "step-000000003.001"]
    assert is_right(folder, of_step=3)


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    write(folder, 1)
    non_finite = layers(2)
    with torch.no_grad():
        non_finite[1].module.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteWeights, match="layer-0001: weight is not finite"):
        write_checkpoint(
            folder,
            RunState(2),
            JOB,
            lambda into: [write_state(one, into) for one in non_finite],
            keep=1,
        )
    assert folder.names() == ["step-000000001"]


CRASHES = """
import itertools, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.checkpoints import write
from workers.storage import LocalFolder

def die_before_call(left):
    def counting(real):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
    for name in ("open", "write", "fsync", "rename", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counting(getattr(os, name)))

for calls in itertools.count():
    folder = LocalFolder(Path(sys.argv[2]) / f"{calls}")
    for step in (1, 2):
        write(folder, step)
    child = os.fork()
    if child == 0:
        die_before_call(calls)
        write(folder, 3, keep=2)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended != -signal.SIGKILL:
        sys.exit(ended)
"""


@pytest.mark.blocks
def test_a_crash_at_any_call_to_the_disk_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """A process that really dies before its n-th open, write, fsync, rename or removal."""
    program = [sys.executable, "-c", CRASHES, str(Path(__file__).parents[2]), str(tmp_path)]
    assert subprocess.run(program, check=False).returncode == 0
    folders = [LocalFolder(path) for path in tmp_path.iterdir()]
    assert len(folders) > 15
    assert {is_right(folder) for folder in folders} == {2, 3}
    for folder in folders:
        write(folder, 4, keep=1)  # and the next one tidies up
        assert folder.names() == ["step-000000004"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_the_older_ones_whole(small_disk: Path) -> None:
    folder = LocalFolder(small_disk)
    write(folder, 1)
    (small_disk / "filler").write_bytes(b"")
    with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb") as file:
        while True:
            file.write(bytes(1024))
            file.flush()
    for room in range(16):  # pages of 4 KiB: each attempt gets a little further
        os.truncate(small_disk / "filler", max(0, (small_disk / "filler").stat().st_size - 4096))
        try:
            write(folder, 2 + room)
        except OSError:
            assert is_right(folder, of_step=1)
            assert sorted(folder.names()) == ["filler", "step-000000001"]
        else:
            assert is_right(folder, of_step=2 + room)
            break
    else:
        pytest.fail("there was never room")


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_an_object_store_keeps_checkpoints_too(tmp_path: Path, scheme: str) -> None:
    folder = open_folder(f"{scheme}://{tmp_path}/deep/runs")
    assert isinstance(folder, RemoteFolder)
    assert folder.names() == []
    for step in (1, 2, 3):
        write(folder, step, keep=2)
    assert sorted(folder.names()) == ["step-000000002", "step-000000003"]
    assert is_right(folder, of_step=3)
    files = fsspec.filesystem(scheme)
    files.pipe_file(f"{tmp_path}/deep/runs/step-000000003/layer-0000.safetensors", b"rubbish")
    assert is_right(folder, of_step=2)


def test_a_protocol_that_nobody_knows_is_one_line() -> None:
    with pytest.raises(JobError, match="nowhere://x: cannot be opened"):
        open_folder("nowhere://x")
