"""A model as layer factories and a head factory: no process has to hold the whole model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from dfa_core.activations import Activations, tensors
from dfa_core.building.lazy_modules import refuse_lazy
from dfa_core.building.module_copy import own_copy
from dfa_core.building.shared_weights import SharedWeights
from dfa_core.errors import JobError, reason
from dfa_core.seeding import derive, drawing_from

ModuleFactory = Callable[[], nn.Module]
Preparation = Callable[[str, nn.Module], None]


@dataclass(frozen=True)
class Model:
    """A lazy model: each factory is called in the process that hosts its layer.

    layers: factories of the layers, in forward order. The output of each layer is a feedback point.
        A layer may return a tuple of tensors (see dfa_core.Layer).
    head: factory of everything after the last feedback point.
    names: for the pieces of another model: the names that weights have there, by their names here
        (`layers.3.<name>`, `head.<name>`). The first is the weight's own name; the others are names
        of weights that it starts from.
    preparations: functions that are called with each module that is built, before it is used, and
        its place: "layers.3" or "head". They may change the module's weights, and which of them are
        trained.

    A factory may also return a module that exists already. The module is copied, so training and
    measuring never change it.
    """

    layers: Sequence[ModuleFactory]
    head: ModuleFactory
    names: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False, compare=False)
    preparations: Sequence[Preparation] = field(default=(), repr=False, compare=False)
    _weights: SharedWeights = field(
        default_factory=SharedWeights, init=False, repr=False, compare=False
    )

    def build_layer(self, index: int, seed: int) -> nn.Module:
        """Build layer `index`; its initial weights depend only on (seed, index).

        Raises JobError if it is lazy, or shares a weight with another layer or the head.
        """
        with drawing_from(derive(seed, "layer", index)):
            return self._own(self.layers[index](), f"layer {index}", f"layers.{index}")

    def build_head(self, seed: int) -> nn.Module:
        """Build the head; its initial weights depend only on the seed. Raises as build_layer()."""
        with drawing_from(derive(seed, "head")):
            return self._own(self.head(), "the head", "head")

    def _own(self, made: nn.Module, label: str, place: str) -> nn.Module:
        name = f"{label} ({describe(made)})"
        refuse_lazy(made, name)
        self._weights.note(name, made)
        own = own_copy(made)
        for prepare in self.preparations:
            prepare(place, own)
        return own


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


LayersOf = Callable[[nn.Module], Sequence[nn.Module]]


def as_model(model: Model | nn.Module, layers_of: LayersOf | None = None) -> Model:
    """Return a `Model` unchanged, or a module cut into layers and a head, with its weights.

    A plain `nn.Sequential` needs no layers_of: a layer begins at each child with a weight of two or
    more dimensions, and includes the activations, normalisations and dropouts that follow it. The
    last such group is the head.

    layers_of: a function that returns the model's layers in forward order, and last its head.

    Raises JobError if the model is neither and there is no layers_of, if a part is lazy, or if
    there is no layer to train by feedback.
    """
    if isinstance(model, Model):
        return model
    if layers_of is not None:
        return cut_into(model, _parts(model, layers_of))
    if not isinstance(model, nn.Sequential):
        raise JobError(
            f"a model is an nn.Sequential or a dfa_core.Model of layer factories, "
            f"not {type(model).__name__}; for another module give the task layers_of=, a function "
            f"that takes it and returns its layers and its head"
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
    return cut_into(model, [nn.Sequential(*group) for group in groups])


def _parts(model: nn.Module, layers_of: LayersOf) -> list[nn.Module]:
    try:
        return list(layers_of(model))
    except JobError:
        raise
    except Exception as error:
        raise JobError(
            f"layers_of: fails: {reason(error)}; it must be a function that takes the module and "
            f"returns a list: the layers in forward order, and last the head"
        ) from error


def cut_into(model: nn.Module, parts: Sequence[nn.Module]) -> Model:
    """Return the model whose layers are these parts of a module, and the last its head.

    Raises JobError if the parts are fewer than two modules, or do not hold all of the weights.
    """
    parts = list(parts)
    wrong = [type(part).__name__ for part in parts if not isinstance(part, nn.Module)]
    if wrong or len(parts) < 2:
        found = f"a {wrong[0]}" if wrong else f"{len(parts)} modules"
        raise JobError(
            f"layers_of: returned {found}; it must return modules: the layers in forward order, "
            f"and last the head"
        )
    own = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    names: dict[str, tuple[str, ...]] = {}
    for index, part in enumerate(parts):
        place = "head" if index == len(parts) - 1 else f"layers.{index}"
        for name, tensor in part.state_dict(keep_vars=True).items():
            if id(tensor) in own:
                names[f"{place}.{name}"] = (own[id(tensor)],)
    known = {first for first, *_ in names.values()}
    lost = [name for name in own.values() if name not in known]
    if lost:
        more = f" and {len(lost) - 1} more" if lost[1:] else ""
        raise JobError(
            f"layers_of: no part that it returned holds the weight {lost[0]}{more} of "
            f"{type(model).__name__}; the layers and the head together must be the whole model"
        )
    factories = [partial(_existing, part) for part in parts]
    return Model(layers=tuple(factories[:-1]), head=factories[-1], names=names)


def _existing(module: nn.Module) -> nn.Module:
    return module


def describe(module: nn.Module) -> str:
    """Return a short name for tables, such as `Linear+Tanh`.

    A module in the place of another has the other's name in `stands_for`.
    """
    children = list(module) if isinstance(module, nn.Sequential) else [module]
    names = (getattr(child, "stands_for", type(child).__name__) for child in children)
    return "+".join(map(str, names)) or type(module).__name__
