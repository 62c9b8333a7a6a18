"""A user's project to be sent to a service: a task file, two helper modules, and a data file."""

import json
import subprocess
from pathlib import Path
from typing import Any

import trustme
from errorcast.v1 import service_pb2 as pb
from support.running import ERRORCAST

from coordinator.client.packing import pack_folder_of

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from dfa_core import Model
from dfa_tasks import Splits, Task
import helper
from parts.sizes import CLASSES

def data(times):
    with open("rows.csv") as file:
        rows = torch.tensor([[float(word) for word in line.split(",")] for line in file])
    rows = rows.repeat(times, 1)
    target = (rows[:, 0] > 0).long()
    return Splits(TensorDataset(rows, target), TensorDataset(rows, target))

def layer(inputs):
    import helper  # in a worker, when the layer is built
    return nn.Sequential(nn.Linear(inputs, helper.WIDTH), helper.Bend())

def make_task(times=1):
    layers = [lambda: layer(4), lambda: layer(helper.WIDTH)]
    model = Model(layers=layers, head=lambda: nn.Linear(helper.WIDTH, CLASSES))
    return Task(model=model, loss=nn.functional.cross_entropy, data=lambda: data(times),
                defaults={"batch_size": 8, "epochs": 2, "log_every": 1, "blocks": 2})
"""
HELPER = """
import os, time
from torch import nn
WIDTH = {width}
class Bend(nn.Module):
    calls = 0
    def forward(self, x):
        Bend.calls += 1
        while Bend.calls == {gate} and not os.path.exists("gate"):
            time.sleep(0.05)  # a test opens the gate
        return x.{bend}()
"""


def project(folder: Path, width: int = 8, bend: str = "tanh", gate: int = 0) -> Path:
    """Write it; return its task's file. Two with other arguments have modules of the same names.

    gate: at this forward a worker waits for a file `gate` beside the task; 0: at none.
    """
    (folder / "parts").mkdir(parents=True)
    (folder / "mytask.py").write_text(TASK)
    (folder / "helper.py").write_text(HELPER.format(width=width, bend=bend, gate=gate))
    (folder / "parts" / "__init__.py").touch()
    (folder / "parts" / "sizes.py").write_text("CLASSES = 2\n")
    rows = (f"{n % 5 - 2},{n % 3 - 1},{n % 7 - 3},1" for n in range(32))
    (folder / "rows.csv").write_text("\n".join(rows))
    return folder / "mytask.py"


def messages(file: Path) -> list[pb.UploadCodeRequest]:
    """Return what a client sends of a project."""
    code = pack_folder_of(file)
    parts = [pb.UploadCodeRequest(chunk=chunk) for chunk in code.chunks(1 << 20)]
    return [pb.UploadCodeRequest(listing=code.listing.message()), *parts]


def tls_flags(folder: Path, authority: trustme.CA) -> tuple[str, ...]:
    """Write a certificate of an authority for this machine; return the flags that name it."""
    made = authority.issue_cert("127.0.0.1", "localhost")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    return ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))


def add_user(folder: Path, name: str, *may: str) -> str:
    """Add a user to users.txt as an operator does; return the user's token."""
    files = ("--users", str(folder / "users.txt"), "--token-file", str(folder / f"{name}.token"))
    subprocess.run([str(ERRORCAST), "user", name, *files, *may], check=True, capture_output=True)
    return (folder / f"{name}.token").read_text().strip()


def audit(state: Path) -> list[dict[str, Any]]:
    """Return the lines of a service's audit; none before the first call that it keeps."""
    file = state / "audit.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
