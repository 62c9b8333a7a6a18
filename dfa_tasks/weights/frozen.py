"""Weights that training leaves as they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dfa_core import JobError


@dataclass(frozen=True)
class Freeze:
    """Freezes the weights of built modules whose names fit a pattern.

    patterns: of names here, such as `layers.[0-5].*`, or of names in the module that the model was
        cut from. names: as Model.names.
    """

    patterns: Sequence[str]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __call__(self, place: str, module: nn.Module) -> None:
        """Freeze what fits in a module.

        A batch normalisation whose running statistics fit only evaluates with them.
        """
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if self._freezes(f"{place}.{name}"):
                parameter.requires_grad_(False)
        for name, part in module.named_modules():
            if isinstance(part, _NormBase) and any(
                self._freezes(".".join(filter(None, (place, name, own))))
                for own in ("running_mean", "running_var")
            ):
                part.eval()

    def _freezes(self, full: str) -> bool:
        return any(_fits(full, self.names, pattern) for pattern in self.patterns)

    def check(self, weights: Iterable[str]) -> None:
        """Raise JobError for a pattern that fits no weight; weights: all names here."""
        known = list(weights)
        for pattern in self.patterns:
            if not any(_fits(name, self.names, pattern) for name in known):
                own = (self.names[name][0] for name in known if name in self.names)
                raise JobError(
                    f"frozen: no weight is named {pattern}; the model has "
                    f"{', '.join([*known[:2], *islice(own, 2)])} ..."
                )


def _fits(name: str, names: Mapping[str, Sequence[str]], pattern: str) -> bool:
    own = names.get(name, ())[:1]  # a weight that only starts like another is one of its own
    return any(fnmatchcase(one, pattern) for one in (name, *own))
