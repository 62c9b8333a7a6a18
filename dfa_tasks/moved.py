"""Finds the modules of this package under the names that they had before they moved to families.

Users' task files import building blocks from here, such as `dfa_tasks.transformer`.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_MOVED = {
    "blender_scene": "view_synthesis.blender_scene",
    "camera_paths": "view_synthesis.camera_paths",
    "convolutions": "graphs.convolutions",
    "criteo": "recommenders.criteo",
    "fields": "recommenders.fields",
    "folds": "graphs.folds",
    "graph_autoencoder": "graphs.autoencoder",
    "graph_models": "graphs.models",
    "idx": "vision.idx",
    "llff_scene": "view_synthesis.llff_scene",
    "models": "vision.models",
    "movielens": "recommenders.movielens",
    "nerf": "view_synthesis.nerf",
    "planetoid": "graphs.planetoid",
    "rays": "view_synthesis.rays",
    "rows": "recommenders.rows",
    "scene": "view_synthesis.scene",
    "text": "language.text",
    "transformer": "language.transformer",
    "volume": "view_synthesis.volume",
}


class MovedModules(MetaPathFinder, Loader):
    """Imports a module of this package by its old name, and says where it is now."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return a spec for an old name, None for any other."""
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in _MOVED:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make a module, whose place is then taken."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module itself in its place: it is then known by both names."""
        old = module.__name__
        new = f"{__package__}.{_MOVED[old.partition('.')[2]]}"
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)
