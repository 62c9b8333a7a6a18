"""Makes a task from its name: an installed one, or one from a user's own file."""

import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from dfa_core import JobError
from dfa_core.names import nearest
from dfa_core.seeding import derive, drawing_from
from dfa_tasks import standard
from dfa_tasks.graphs import tasks as graphs
from dfa_tasks.language import causal_lm
from dfa_tasks.language import tasks as language
from dfa_tasks.options import check_options, typed_options
from dfa_tasks.recommenders import tasks as recommenders
from dfa_tasks.task import Installed, Task, TaskMaker
from dfa_tasks.view_synthesis import tasks as view_synthesis
from dfa_tasks.vision import tasks as vision

_PREFIX = "errorcast_task_"  # of the module names that users' files get: no other module has it
_RENAMED = {"whole": "full_batch", "rankings": "global_metrics", "of_loss": "derived_metrics"}

INSTALLED: Mapping[str, Installed] = {
    **vision.INSTALLED,
    **language.INSTALLED,
    **causal_lm.INSTALLED,
    **recommenders.INSTALLED,
    **graphs.INSTALLED,
    **view_synthesis.INSTALLED,
    **standard.INSTALLED,
}


def make_task(
    name: str,
    options: Mapping[str, Any],
    data_dir: str = "",
    method: str = "dfa",
    seed: int = 0,
) -> Task:
    """Build an installed task, or the one that a function in a user's file returns.

    name: a name of INSTALLED, or `path/to/file.py:function`.
    options: arguments for the task's function.
    data_dir: folder of the data sets; passed to a function that has such a parameter.
    method: how the model will learn; passed to a function that has such a parameter.
    seed: of what the file and the function draw from global generators, e.g. a model's weights.

    Raises JobError for an unknown name or option, and when the user's file or function fails.
    """
    with drawing_from(derive(seed, "task")):
        return _make_task(name, options, {"data_dir": data_dir, "method": method})


def _make_task(name: str, options: Mapping[str, Any], also: Mapping[str, str]) -> Task:
    found = split_file(name)
    if found is not None:
        maker, title = _from_file(*found), found[1]
    elif name in INSTALLED:
        maker, title = INSTALLED[name].make, name
    else:
        hint = " (a file of your own is named path/to/file.py:function)" if ".py" in name else ""
        raise JobError(f"task: unknown '{name}'{hint}; {nearest(name, INSTALLED)}")
    known = inspect.signature(maker).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        check_options(title, options, known)
    arguments = typed_options(options, maker)
    for given, value in also.items():
        if given in known:
            arguments[given] = value
    try:
        task = maker(**arguments)
    except JobError:
        raise
    except Exception as error:
        raise JobError(f"task '{name}' failed: {_reason(error)}") from error
    if not isinstance(task, Task):
        raise JobError(f"task '{name}' returned {type(task).__name__}, not a dfa_tasks.Task")
    code = "" if found is None else sha256(found[0].read_bytes()).hexdigest()
    return replace(task, name=title if task.name == "task" else task.name, code=code)


def split_file(name: str) -> tuple[Path, str] | None:
    """Return file and function of `path/to/file.py:function`, None for a task's other name."""
    path, colon, function = name.rpartition(":")
    return (Path(path), function) if colon and path.endswith(".py") else None


def user_modules() -> list[ModuleType]:
    """Return the modules that make_task() imported from users' files.

    Another process cannot import them by name, so they are to be pickled by value.
    """
    return [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]


def _from_file(path: Path, function: str) -> TaskMaker:
    here = Path.cwd()  # as people name a file that is below it
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    if not path.is_file():
        raise JobError(f"task: there is no file {shown}")
    try:
        module = _load(path.resolve())
    except Exception as error:
        raise JobError(f"task: {shown} failed: {_reason(error)}") from error
    maker: TaskMaker | None = getattr(module, function, None)
    if maker is None or not callable(maker):
        functions = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        hint = nearest(function, functions)
        raise JobError(f"task: {shown} has no function '{function}'; {hint}")
    return maker


def _reason(error: Exception) -> str:
    """Return the type and the text of an error, with the new name of a renamed field of Task."""
    text = f"{type(error).__name__}: {error}"
    for old, new in _RENAMED.items():
        if str(error) == f"Task.__init__() got an unexpected keyword argument '{old}'":
            return f"{text}; this field is now called {new}"
    return text


class _AsItIsNow(SourceFileLoader):
    """Compiles a file at each import: Python's cache compares only its size and the second."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _load(path: Path) -> ModuleType:
    """Import a user's file under a name that no other module has."""
    name = f"{_PREFIX}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItIsNow(name, str(path)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for the files next to it; last, so it hides nothing
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
