"""Keeps modules that are imported apart from the random streams of the code that imports them.

A module runs its code once in a process: the file that imports it must draw the same numbers
whether that is now or was before.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


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
        """Find a module as Python does, and wrap what runs its code."""
        spec = PathFinder.find_spec(fullname, path, target) if self._mine() else None
        if spec is not None and isinstance(spec.loader, Loader):
            run = spec.loader.exec_module

            def seeded(module: ModuleType) -> None:
                with self._drawing(fullname):
                    run(module)

            spec.loader.exec_module = seeded  # type: ignore[method-assign]
        return spec
