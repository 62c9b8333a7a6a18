"""Finds, for each weight of a model, the tensor of a file that it starts from."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from dfa_core import JobError, Model
from dfa_tasks.weights.file import WeightsFile

_SHOWN = 3  # names in a line


@dataclass(frozen=True)
class Matched:
    """Which tensor of a file each weight of a model takes.

    of: the file's name of each weight that is found there, by the weight's name here.
    missing: weights that the file lacks; they start as without it.
    other_shape: of the head, weights that have another shape in the file, and both shapes.
    unused: tensors of the file that the model has no place for.
    """

    of: Mapping[str, str]
    missing: Sequence[str]
    other_shape: Mapping[str, str]
    unused: Sequence[str]

    def lines(self, file: WeightsFile) -> list[str]:
        """Return the report, a line for people each."""
        total = len(self.of) + len(self.missing) + len(self.other_shape)
        lines = [f"init: {len(self.of)} of {total} weights start from {file.path}"]
        if self.missing:
            lines.append(f"init: {_some(self.missing)} not in the file: the task's first values")
        for name, shapes in self.other_shape.items():
            lines.append(f"init: {name} is {shapes}: the task's first values")
        if self.unused:
            lines.append(f"init: {_some(self.unused)} in the file and not in the model: not used")
        return lines


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more are" if more > 0 else f"{shown} {'are' if names[1:] else 'is'}"


def shapes_of(model: Model, seed: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights and stored buffers by name, `layers.3.<name>`.

    Its modules are built one after another, and dropped.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(len(model.layers) + 1):
        is_head = index == len(model.layers)
        module = model.build_head(seed) if is_head else model.build_layer(index, seed)
        place = "head" if is_head else f"layers.{index}"
        for name, tensor in module.state_dict().items():
            shapes[f"{place}.{name}"] = tuple(tensor.shape)
    return shapes


def match(
    shapes: Mapping[str, tuple[int, ...]],
    names: Mapping[str, Sequence[str]],
    file: WeightsFile,
) -> Matched:
    """Match a model's weights with a file's tensors by their names.

    A tensor may have the weight's name here, or one of its names in the module that the model was
    cut from. A prefix such as `model.`, which all names of one side have, does not matter.

    shapes: of the weights by name. names: as Model.names.

    Raises JobError if no weight is found, or one outside the head has another shape.
    """
    wanted = {name: (name, *names.get(name, ())) for name in shapes}
    known = _under_own_names(set(file.shapes), {n for all_ in wanted.values() for n in all_})
    there = {
        name: next(known[one] for one in candidates if one in known)
        for name, candidates in wanted.items()
        if not known.keys().isdisjoint(candidates)
    }
    found = {name: its for name, its in there.items() if file.shapes[its] == shapes[name]}
    other = {
        name: f"{_shape(file.shapes[its])} in the file and {_shape(shapes[name])} here"
        for name, its in there.items()
        if name not in found
    }
    wrong = next((name for name in other if not name.startswith("head.")), None)
    if wrong is not None:
        raise JobError(f"init: {wrong} is {other[wrong]}; is {file.path} of another model?")
    if not found:
        raise JobError(
            f"init: {file.path} holds no weight of this model; it has {_first(file.shapes)}, the "
            f"model has {_first(names[n][0] if n in names else n for n in shapes)}"
        )
    for name, its in found.items():
        if its in file.quantised:
            raise JobError(
                f"init: {name} is quantised in {file.path} ({file.quantised[its]}); give weights "
                f"in float32, float16 or bfloat16"
            )
    missing, used = [name for name in wanted if name not in there], set(there.values())
    unused = [name for name in file.shapes if name not in used]
    return Matched(found, missing, other, unused)


def _under_own_names(in_file: set[str], own: set[str]) -> dict[str, str]:
    """Return the file's names by the model's: the same, or those with one prefix more or less."""
    if len(in_file & own) * 2 >= min(len(in_file), len(own)):
        return {name: name for name in in_file & own}
    longer, shorter = Counter[str](), Counter[str]()
    for name in in_file:
        longer.update(p for p, rest in _split(name) if rest in own)
    for name in own:
        shorter.update(p for p, rest in _split(name) if rest in in_file)
    best = {name: name for name in in_file & own}
    for prefix, _ in longer.most_common(1):
        renamed = {name.removeprefix(prefix): name for name in in_file if name.startswith(prefix)}
        best = max(best, {n: there for n, there in renamed.items() if n in own}, key=len)
    for prefix, _ in shorter.most_common(1):
        renamed = {prefix + name: name for name in in_file}
        best = max(best, {n: there for n, there in renamed.items() if n in own}, key=len)
    return best


def _split(name: str) -> Iterable[tuple[str, str]]:
    """Yield (prefix, rest) of a name at each of its dots."""
    for at, character in enumerate(name):
        if character == ".":
            yield name[: at + 1], name[at + 1 :]


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _first(names: Iterable[str]) -> str:
    found = list(names)
    return f"{', '.join(found[:_SHOWN])}{' ...' if found[_SHOWN:] else ''}"


@dataclass(frozen=True)
class StartFrom:
    """Gives each module that a model builds its weights from a file, which must be readable there.

    file: the tensors. of: as Matched.of.
    """

    file: WeightsFile
    of: Mapping[str, str]

    def __call__(self, place: str, module: nn.Module) -> None:
        """Copy the file's tensors into a module, in its own number formats."""
        own = {
            name.removeprefix(f"{place}."): there
            for name, there in self.of.items()
            if name.startswith(f"{place}.")
        }
        tensors = self.file.tensors(set(own.values()))
        module.load_state_dict({name: tensors[there] for name, there in own.items()}, strict=False)
