"""A model as layer factories and a head factory: no process has to hold the whole model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from dfa_core.activations import Activations, tensors
from dfa_core.building.lazy_modules import refuse_lazy
from dfa_core.building.module_copy import own_copy
from dfa_core.building.shared_weights import SharedWeights
from dfa_core.errors import JobError
from dfa_core.seeding import derive, drawing_from

ModuleFactory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Model:
    """A lazy model: each factory is called in the process that hosts its layer.

    layers: factories in forward order; each layer's output is a feedback point. A layer may return
        a tuple of tensors (see dfa_core.Layer).
    head: factory of everything after the last feedback point.

    A factory may also return a module that exists already. It is copied: training and measuring
    never change what a factory returned.
    """

    layers: Sequence[ModuleFactory]
    head: ModuleFactory
    _weights: SharedWeights = field(
        default_factory=SharedWeights, init=False, repr=False, compare=False
    )

    def build_layer(self, index: int, seed: int) -> nn.Module:
        """Build layer `index`; its initial weights depend on (seed, index) alone.

        Raises JobError if it is lazy, or shares a weight with another layer or the head.
        """
        with drawing_from(derive(seed, "layer", index)):
            return self._own(self.layers[index](), f"layer {index}")

    def build_head(self, seed: int) -> nn.Module:
        """Build the head; its initial weights depend on the seed alone. Raises as build_layer()."""
        with drawing_from(derive(seed, "head")):
            return self._own(self.head(), "the head")

    def _own(self, made: nn.Module, place: str) -> nn.Module:
        name = f"{place} ({describe(made)})"
        refuse_lazy(made, name)
        self._weights.note(name, made)
        return own_copy(made)


class Chain(nn.Sequential):
    """Modules in sequence; if one returns a tuple, the next is called with all its tensors."""

    def forward(self, *inputs: Tensor) -> Activations:
        """Return the output of the last module."""
        h: Activations = inputs
        for module in self:
            h = module(*tensors(h))
        return h


def chain(*factories: ModuleFactory) -> Chain:
    """Build a Chain from factories of its modules, in order."""
    return Chain(*(make() for make in factories))


def as_model(model: Model | nn.Sequential) -> Model:
    """Return a `Model` unchanged, or a plain `nn.Sequential` cut into layers and a head.

    A layer begins at each child with a weight of two or more dimensions, and includes the
    activations, normalisations and dropouts that follow it. The last such group is the head. The
    initial weights are those of the given modules.

    Raises JobError if it is neither, if a child is lazy, or if fewer than two children have such a
    weight: then there is no layer to train by feedback.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, nn.Sequential):
        raise JobError(
            f"a model is an nn.Sequential or a dfa_core.Model of layer factories, "
            f"not {type(model).__name__}"
        )
    for index, child in enumerate(model):
        refuse_lazy(child, f"the model's child {index}")
    groups: list[list[nn.Module]] = [[]]
    for child in model:  # not children(): an activation may be used at several places
        starts = any(p.dim() >= 2 for p in child.parameters())
        if starts and any(True for member in groups[-1] for _ in member.parameters()):
            groups.append([])
        groups[-1].append(child)
    if len(groups) < 2:
        raise JobError(
            "the nn.Sequential has fewer than two children with weights: it needs at least one "
            "layer and a head"
        )
    factories = [partial(_existing, nn.Sequential(*group)) for group in groups]
    return Model(layers=tuple(factories[:-1]), head=factories[-1])


def _existing(module: nn.Module) -> nn.Module:
    return module


def describe(module: nn.Module) -> str:
    """Return a short name for tables, such as `Linear+Tanh`."""
    children = list(module) if isinstance(module, nn.Sequential) else [module]
    return "+".join(type(child).__name__ for child in children) or type(module).__name__
