"""The files of a run."""

from pathlib import Path

from support.in_process import train_here

from coordinator.runs.run_folder import RunFolder


def test_equal_weights_are_written_as_equal_bytes(tmp_path: Path) -> None:
    train_here("digits", tmp_path / "run", method="bp", epochs=1, options={"width": 8})
    written = {(tmp_path / "run" / "model.safetensors").read_bytes()}
    for number in range(8):
        RunFolder(tmp_path / "run").write_model(tmp_path / f"{number}")
        written.add((tmp_path / f"{number}").read_bytes())
    assert len(written) == 1
