"""What can be trained by name, and how a user's own file becomes a task."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ray import cloudpickle

from dfa_core import JobError
from dfa_core.names import nearest
from dfa_tasks.graphs.autoencoder import autoencoder_task
from dfa_tasks.graphs.tasks import Network, citation_task
from dfa_tasks.language.tasks import language_task
from dfa_tasks.options import check_options
from dfa_tasks.recommenders.tasks import click_task
from dfa_tasks.standard import standard_mlp
from dfa_tasks.task import Task
from dfa_tasks.view_synthesis.tasks import view_task
from dfa_tasks.vision.tasks import IMAGE_SETS, conv_task, mlp_task, residual_task

TaskMaker = Callable[..., Task]


@dataclass(frozen=True)
class Installed:
    """A task that can be named: its function and one line about it."""

    make: TaskMaker
    about: str


_SIZES: dict[str, dict[str, Any]] = {"digits": {"layers": 3, "width": 256}}


def _vision() -> dict[str, Installed]:
    kinds: list[tuple[str, TaskMaker, str]] = [
        ("", mlp_task, "tanh MLP, random feedback"),
        ("-residual", residual_task, "pre-norm residual MLP, identity feedback"),
        ("-conv", conv_task, "small convolutional network, random feedback (DFA trains it worse)"),
    ]
    titles = {
        "digits": "scikit-learn's 8x8 digits (bundled)",
        "mnist": "MNIST",
        "fashion-mnist": "Fashion-MNIST",
    }
    return {
        name + suffix: Installed(
            partial(make, name, **(_SIZES.get(name, {}) if make is mlp_task else {})),
            f"{titles[name]}: {about}",
        )
        for name in IMAGE_SETS
        for suffix, make, about in kinds
    }


def _recommenders() -> dict[str, Installed]:
    data = {
        "movielens": "MovieLens 100K, clicks",
        "criteo": "Criteo, clicks (your train.txt)",
    }
    models = {
        "linear": "logistic regression",
        "fm": "factorisation machine",
        "deepfm": "DeepFM",
        "dcn": "Deep & Cross",
        "autoint": "AutoInt",
        "afn": "AFN",
    }
    return {
        f"{name}-{model}": Installed(partial(click_task, name, model), f"{title}: {about}")
        for name, title in data.items()
        for model, about in models.items()
    }


def _graphs() -> dict[str, Installed]:
    titles = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}
    networks: dict[Network, str] = {
        "gcn": "GCN",
        "cheb": "Chebyshev convolutions",
        "gat": "graph attention",
        "spline": "spline convolutions",
        "dna": "DNA convolutions",
    }
    return {
        f"{graph}-{network}": Installed(
            partial(citation_task, graph, network), f"{title}, classes of papers: {about}"
        )
        for graph, title in titles.items()
        for network, about in networks.items()
    } | {
        f"{graph}-autoencoder": Installed(
            partial(autoencoder_task, graph), f"{title}, who cites whom: graph autoencoder"
        )
        for graph, title in titles.items()
    }


_TEXTS = {
    "tiny-shakespeare": "Tiny Shakespeare, the next character",
    "wikitext-2": "WikiText-2, the next token of 8,000 (your files)",
    "wikitext-103": "WikiText-103, the next token of 32,000 (your files)",
}

INSTALLED: Mapping[str, Installed] = {
    **_vision(),
    **{
        name: Installed(partial(language_task, name), f"{about}: Transformer")
        for name, about in _TEXTS.items()
    },
    **_recommenders(),
    **_graphs(),
    "nerf": Installed(partial(view_task, "plain"), "NeRF's lego at 100x100: the authors' network"),
    "nerf-residual": Installed(
        partial(view_task, "residual"), "NeRF's lego at 100x100: residual stream, identity feedback"
    ),
    "mlp": Installed(standard_mlp, "8 equal tanh layers on random data, for bench and plan"),
}


def make_task(
    name: str, options: Mapping[str, Any], data_dir: str = "", method: str = "dfa"
) -> Task:
    """Build an installed task, or the one that a function in a user's file returns.

    name: a name of INSTALLED, or `path/to/file.py:function`.
    options: arguments for the task's function, which may also have one `data_dir`, and one `method`
        where its settings depend on how it learns.

    Raises JobError for an unknown name or option, and when the user's file or function fails.
    """
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        maker, title = _from_file(Path(path), function), function
    elif name in INSTALLED:
        maker, title = INSTALLED[name].make, name
    else:
        hint = " (a file of your own is named path/to/file.py:function)" if ".py" in name else ""
        raise JobError(f"task: unknown '{name}'{hint}; {nearest(name, INSTALLED)}")
    known = inspect.signature(maker).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        check_options(title, options, known)
    arguments = dict(options)
    for given, value in {"data_dir": data_dir, "method": method}.items():
        if given in known:
            arguments[given] = value
    try:
        task = maker(**arguments)
    except JobError:
        raise
    except Exception as error:
        raise JobError(f"task '{name}' failed: {type(error).__name__}: {error}") from error
    if not isinstance(task, Task):
        raise JobError(f"task '{name}' returned {type(task).__name__}, not a dfa_tasks.Task")
    return replace(task, name=title) if task.name == "task" else task


def _from_file(path: Path, function: str) -> TaskMaker:
    if not path.is_file():
        raise JobError(f"task: there is no file {path}")
    try:
        module = _load(path.resolve())
    except Exception as error:
        raise JobError(f"task: {path} failed: {type(error).__name__}: {error}") from error
    maker: TaskMaker | None = getattr(module, function, None)
    if maker is None or not callable(maker):
        functions = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        raise JobError(f"task: {path} has no function '{function}'; {nearest(function, functions)}")
    return maker


def _load(path: Path) -> ModuleType:
    """Import a user's file under a name that nothing else has, to be sent to workers by value."""
    name = f"errorcast_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for what lies beside it; last, so it hides nothing
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    cloudpickle.register_pickle_by_value(module)
    return module
