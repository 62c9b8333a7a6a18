"""Keeps modules that are imported apart from the random streams of the code that imports them.

A module runs its code once in a process: the file that imports it must draw the same numbers
whether that is now or was before.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class SeededImports(MetaPathFinder):
    """While it is in sys.meta_path, a module is imported under a seed of its own name."""

    def __init__(
        self, drawing: Callable[[str], AbstractContextManager[None]], mine: Callable[[], bool]
    ) -> None:
        """drawing: gives the context for a module's name; mine: if this thread's imports count."""
        self._drawing, self._mine = drawing, mine

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as Python would without this finder, and wrap what runs its code."""
        spec = self._found(fullname, path, target) if self._mine() else None
        loader: Any = None if spec is None else spec.loader
        is_object = hasattr(loader, "__dict__") and not isinstance(loader, type)  # a type: built in
        if is_object and hasattr(loader, "exec_module"):

            def seeded(module: ModuleType) -> None:
                vars(loader).pop("exec_module", None)  # its own again: it may load others, too
                with self._drawing(fullname):
                    loader.exec_module(module)

            loader.exec_module = seeded
        return spec

    def _found(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        return next((spec for spec in found if spec is not None), None)
