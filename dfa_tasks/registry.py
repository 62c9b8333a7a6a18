"""What can be trained by name, and how a user's own file becomes a task."""

import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ray import cloudpickle

from dfa_core import JobError
from dfa_core.names import nearest
from dfa_tasks import standard
from dfa_tasks.graphs import tasks as graphs
from dfa_tasks.language import tasks as language
from dfa_tasks.options import check_options
from dfa_tasks.recommenders import tasks as recommenders
from dfa_tasks.task import Installed, Task, TaskMaker
from dfa_tasks.view_synthesis import tasks as view_synthesis
from dfa_tasks.vision import tasks as vision

INSTALLED: Mapping[str, Installed] = {
    **vision.INSTALLED,
    **language.INSTALLED,
    **recommenders.INSTALLED,
    **graphs.INSTALLED,
    **view_synthesis.INSTALLED,
    **standard.INSTALLED,
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
