"""Modules whose weights are computed from others: they train, and are evaluated and resumed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.in_process import train_here
from support.runs import weights
from torch import nn
from torch.utils.data import TensorDataset

from coordinator import train
from coordinator.inspection.saved_run import _reference, open_run
from coordinator.job.resolve import Job
from coordinator.runs.run_folder import RunFolder
from dfa_core import JobError, Model
from dfa_tasks import Splits, Task

parametrizations = nn.utils.parametrizations
NORMS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "parametrizations.weight_norm": parametrizations.weight_norm,
    "parametrizations.spectral_norm": parametrizations.spectral_norm,
    "parametrizations.orthogonal": parametrizations.orthogonal,
}
SETTINGS: dict[str, Any] = {"batch_size": 16, "microbatches": 2, "method": "dfa", "log_every": 1}


def normed(name: str, sequential: bool) -> Task:
    norm, x = NORMS[name], torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, (x[:, 0] > 0).long())

    def layer() -> nn.Module:
        return nn.Sequential(norm(nn.Linear(8, 8)), nn.Tanh())

    def head() -> nn.Module:
        return norm(nn.Linear(8, 2))

    model: Model | nn.Sequential = Model([layer, layer], head)
    if sequential:
        torch.manual_seed(0)
        model = nn.Sequential(*layer(), *layer(), head())
    return Task(model, nn.functional.cross_entropy, Splits(data, data))


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("name", NORMS)
def test_a_run_is_evaluated_resumed_and_exported(
    tmp_path: Path, name: str, sequential: bool
) -> None:
    def run(folder: str, epochs: int, **more: Any) -> Any:
        task = normed(name, sequential)
        return train_here(task, tmp_path / folder, epochs=epochs, **SETTINGS, **more)

    whole = run("whole", 2)
    run("parts", 1)
    resumed = run("parts", 2, resume=True)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert resumed.metrics == whole.metrics
    checkpoint = RunFolder(tmp_path / "whole").checkpoint()
    assert checkpoint is not None
    job = Job(whole.job.spec, normed(name, sequential))
    saved = _reference(job, checkpoint, steps_per_epoch=4)
    x = torch.randn(5, 8)
    assert torch.equal(saved.evaluate(x), whole.model(x))  # the model of model.safetensors


def test_on_workers_it_has_the_same_bits(a_ray: None, tmp_path: Path) -> None:
    """The older form in an nn.Sequential; the newer one cannot be pickled, and is refused."""
    settings = {**SETTINGS, "epochs": 1, "blocks": 2}
    run = train(normed("weight_norm", True), run_dir=tmp_path / "workers", **settings)
    here = train_here(normed("weight_norm", True), tmp_path / "here", **settings)
    assert weights(run.folder) == weights(here.folder)
    refused = normed("parametrizations.weight_norm", True)
    with pytest.raises(JobError, match="cannot be sent to the workers.*of a dfa_core.Model$") as e:
        train(refused, run_dir=tmp_path / "refused", **settings)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "refused").exists()


LAZY = """
from torch import nn
from dfa_core import Model
from dfa_tasks import Task

def sequential():
    return Task(nn.Sequential(nn.Linear(8, 8), nn.LazyBatchNorm1d(), nn.Linear(8, 2)), None, None)

def factories():
    lazy = nn.Sequential(nn.Linear(8, 8), nn.LazyLinear(3))
    model = Model([lambda: lazy], lambda: nn.Linear(3, 2))
    model.build_layer(0, 0)
"""


@pytest.mark.parametrize(
    ("function", "what"),
    [("sequential", "the model's child 1 holds a LazyBatchNorm1d"),
     ("factories", r"layer 0 \(Linear\+LazyLinear\) holds a LazyLinear")],
)  # fmt: skip
def test_lazy_modules_are_refused_by_name(tmp_path: Path, function: str, what: str) -> None:
    from coordinator.job.resolve import resolve

    (tmp_path / "lazy.py").write_text(LAZY)
    with pytest.raises(JobError, match=f"^{what}.*use .* with its sizes instead$"):
        resolve(f"{tmp_path}/lazy.py:{function}", {"blocks": 1})


def test_open_run_knows_them_by_their_file(tmp_path: Path) -> None:
    """As `errorcast evaluate` does it, in a process that builds the task anew."""
    (tmp_path / "normed.py").write_text(
        "import torch\nfrom torch import nn\nfrom torch.utils.data import TensorDataset\n"
        "from dfa_tasks import Splits, Task\n"
        "def make():\n"
        "    norm = nn.utils.weight_norm\n"
        "    x = torch.randn(64, 8)\n"
        "    data = TensorDataset(x, (x[:, 0] > 0).long())\n"
        "    net = nn.Sequential(norm(nn.Linear(8, 8)), nn.Tanh(), norm(nn.Linear(8, 2)))\n"
        "    return Task(net, nn.functional.cross_entropy, Splits(data, data))\n"
    )
    job = {**SETTINGS, "blocks": 1, "epochs": 1}
    run = train_here(f"{tmp_path}/normed.py:make", tmp_path / "run", **job)
    assert open_run(tmp_path / "run").scores() == run.metrics
