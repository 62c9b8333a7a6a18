"""A user's project whose task reads its files by relative paths, in all processes."""

from pathlib import Path

import torch

TASK = """
import torch
from torch import nn
from torch.utils.data import Dataset
from dfa_core import Model
from dfa_tasks import Splits, Task

class Lazy(Dataset):
    def __len__(self):
        return 32
    def __getitem__(self, index):
        values = torch.load("rows.pt")
        return values[index], int(values[index].sum() > 0)

def data():
    with open("used.txt") as file:
        assert file.read() == "{word}"
    return Splits(Lazy(), Lazy())

def layer():
    open("used.txt").close()
    return nn.Sequential(nn.Linear(4, {width}), nn.Tanh())

def make(note="here.txt"):
    open("used.txt").close()
    model = Model(layers=[layer], head=lambda: nn.Linear({width}, 2))
    return Task(model=model, loss=nn.functional.cross_entropy, data=data,
                defaults={{"batch_size": 8, "epochs": 1}})
"""


def project(folder: Path, word: str, width: int = 8) -> Path:
    """A project: a task file that reads files beside it, by relative paths, at every moment."""
    folder.mkdir()
    (folder / "mytask.py").write_text(TASK.format(word=word, width=width))
    (folder / "used.txt").write_text(word)
    torch.save(
        torch.randn(32, 4, generator=torch.Generator().manual_seed(width)), folder / "rows.pt"
    )
    return folder
