import json
from pathlib import Path

import safetensors
import torch
from torch import nn

from dfa_core import LearningRule, OptimizerSpec
from dfa_core.trained import TrainedModule
from workers.state_files import SavedModules, StateFile, write_state
from workers.storage import LocalFolder


def test_a_state_file_gives_the_bits_back_and_holds_no_pickle(tmp_path: Path) -> None:
    rule = LearningRule(optimizer=OptimizerSpec("adam", 0.1))

    def make() -> TrainedModule:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        return TrainedModule("layer-0000", module, rule, key="0", delayed=False)

    one, other = make(), make()
    for _ in range(2):
        one.module(torch.randn(5, 4)).square().sum().backward()
        one.apply_gradients(0)
    folder = LocalFolder(tmp_path)
    written = write_state(one, folder)
    path = tmp_path / "layer-0000.safetensors"
    assert written.bytes == path.stat().st_size
    entry = {"part": "layer-0000", "bytes": written.bytes, "sha256": written.sha256}
    assert written.entry() == entry  # manifests of older runs have these names
    assert StateFile.of_entry(entry) == written
    assert b"pickle" not in path.read_bytes()
    with safetensors.safe_open(path, framework="pt") as file:
        assert "weights/1.running_mean" in file.keys()  # noqa: SIM118
        assert json.loads(file.metadata()["scalars"]) == {}
    other.load_state(*SavedModules(folder, {"layer-0000": written}).read("layer-0000"))
    (ours, _), (theirs, _) = one.state(), other.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
