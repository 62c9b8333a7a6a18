"""Checks the options of a task, and reads the default settings of a family."""

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import yaml

from dfa_core import JobError
from dfa_core.names import nearest


def check_options(task: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise JobError for an option that the task does not have."""
    known = list(known)
    for option in given:
        if option not in known:
            raise JobError(f"options: task '{task}' has no '{option}'; {nearest(option, known)}")


def settings_of(family: str) -> dict[str, Any]:
    """Return the content of settings/FAMILY.yaml."""
    text = files("dfa_tasks").joinpath(f"settings/{family}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found
