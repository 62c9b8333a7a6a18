import os
import re
import sys
from pathlib import Path

import pytest

from dfa_core import JobError
from dfa_tasks import INSTALLED, make_task
from dfa_tasks.registry import user_modules

FILE = """
from torch import nn
from torch.nn.functional import cross_entropy
from dfa_tasks import Splits, Task

def make_task(**fields):
    model = nn.Sequential(nn.Linear(2, 2))
    return Task(model=model, loss=cross_entropy, data=lambda: Splits([], []), **fields)
"""


@pytest.fixture
def task(tmp_path: Path) -> str:
    path = tmp_path / "registry_example.py"
    path.write_text(FILE, encoding="utf-8")
    return f"{path}:make_task"


def test_a_users_module_is_pickled_by_value(task: str) -> None:
    make_task(task, {})
    assert "errorcast_task_registry_example" in [module.__name__ for module in user_modules()]


def test_a_file_is_always_read_anew(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own cache would take a file of the same second and size for the one before."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = Path(task.partition(":")[0])
    first = make_task(task, {})
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text(FILE.replace("Linear(2, 2)", "Linear(2, 3)"), encoding="utf-8")
    os.utime(path, ns=times)
    second = make_task(task, {})
    assert [task.model[0].out_features for task in (first, second)] == [2, 3]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("whole", "full_batch"),
        ("rankings", "global_metrics"),
        ("of_loss", "derived_metrics"),
    ],
)
def test_an_old_field_is_refused_with_its_new_name(task: str, old: str, new: str) -> None:
    with pytest.raises(JobError, match=f"'{old}'; this field is now called {new}"):
        make_task(task, {old: {}})
    make_task(task, {new: {}})


def test_the_documents_list_every_installed_task_once() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "tasks.md"
    text = page.read_text(encoding="utf-8").partition("\n## Data")[0]
    tables = re.findall(r"^\| tasks? \|.*\n\|-.*\n((?:\|.*\n)+)", text, re.M)
    first = [row.split("|")[1] for table in tables for row in table.splitlines()]
    listed = re.findall(r"`([a-z][^`]*)`", " ".join(first))
    assert sorted(listed) == sorted(INSTALLED)
