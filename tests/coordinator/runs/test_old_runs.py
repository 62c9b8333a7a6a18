"""A run folder that an older version wrote is resumed."""

import shutil
from pathlib import Path

import pytest

from coordinator import train
from coordinator.runs.run_folder import RunFolder
from dfa_core import JobError

# written at 61d51fe: `errorcast train digits --seed 5 --epochs 2 --blocks 1 --batch-size 256 ...`,
# interrupted after the first epoch
OLD_RUN = Path(__file__).parents[2] / "support" / "old_run"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD_RUN, tmp_path / "run"))


def test_it_is_read_as_it_was_written(old_run: Path) -> None:
    folder = RunFolder(old_run)
    checkpoint = folder.checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == 5
    assert folder.spec().batch_size == 256
    assert {"layer-0000", "layer-0001", "head"} == {path.stem for path in old_run.rglob("*.safe*")}


@pytest.mark.usefixtures("a_ray")
def test_it_continues(old_run: Path) -> None:
    run = train("digits", run_dir=old_run, resume=True, epochs=3)
    assert run.summary["steps"] == 15
    assert {line["step"] for line in run.curves} >= {5, 10, 15}


def test_another_format_is_refused_in_one_line(old_run: Path) -> None:
    manifest = next(old_run.rglob("manifest.json"))
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(JobError, match=r"has format 1, this version reads 2"):
        RunFolder(old_run).checkpoint()
