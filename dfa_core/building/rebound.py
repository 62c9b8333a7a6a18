"""Makes functions that a copied module holds work on the copy.

copy.deepcopy takes a function as it is. One that was made inside its module, such as
`self.run = lambda x: self.line(x)`, or a hook, would keep using the original's weights.
"""

import types
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn


def rebind_functions(original: nn.Module, copied: nn.Module, copies: Mapping[int, Any]) -> None:
    """Let the functions of a copy use the copy, and give its weights the originals' hooks.

    copies: by the id of an original object, as copy.deepcopy leaves them in its memo.
    """
    rebinding = _Rebinding(copies)
    for part in copied.modules():
        for name, value in list(vars(part).items()):
            own = rebinding.of(value)
            if own is not value:
                vars(part)[name] = own
    for old, new in zip(_weights(original), _weights(copied), strict=True):
        for hook in (getattr(old, "_backward_hooks", None) or {}).values():
            new.register_hook(rebinding.of(hook))  # type: ignore[no-untyped-call]
        for hook in (getattr(old, "_post_accumulate_grad_hooks", None) or {}).values():
            new.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                rebinding.of(hook)
            )


def _weights(module: nn.Module) -> list[Tensor]:
    return [p for part in module.modules() for p in part.parameters(recurse=False)]


class _Rebinding:
    """Makes functions again that hold originals, with the copies in their place."""

    def __init__(self, copies: Mapping[int, Any]) -> None:
        self._copies = copies
        self._made: dict[int, tuple[types.FunctionType, types.FunctionType]] = {}

    def of(self, value: Any) -> Any:
        """Return what a copy should hold in place of a value; itself, where nothing changes.

        Lists and dictionaries, which are the copy's own, are changed in place.
        """
        match value:
            case list():
                value[:] = [self.of(one) for one in value]
            case dict():
                for key, one in list(value.items()):
                    value[key] = self.of(one)
            case tuple() if type(value) is tuple:
                made = tuple(self.of(one) for one in value)
                return value if _same(made, value) else made
        return self._callable(value)

    def _callable(self, value: Any) -> Any:
        """Return a function, or what binds one, that uses the copies; any other value as it is."""
        match value:
            case types.FunctionType():
                return self._function(value)
            case types.MethodType():
                owner = self._copies.get(id(value.__self__), value.__self__)
                same = owner is value.__self__
                return value if same else types.MethodType(value.__func__, owner)
            case partial():
                held = (value.func, *value.args, *value.keywords.values())
                own = [self._held(one) for one in held]
                if _same(own, held):
                    return value
                arguments, named = own[1 : 1 + len(value.args)], own[1 + len(value.args) :]
                return partial(own[0], *arguments, **dict(zip(value.keywords, named, strict=True)))
        return value

    def _held(self, value: Any) -> Any:
        """Return what a function should hold in place of a value: its copy, if it has one."""
        copies = self._copies
        return copies[id(value)] if id(value) in copies else self._callable(value)

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        if id(function) in self._made:  # also where a function holds itself
            return self._made[id(function)][1]
        cells = function.__closure__ or ()
        made = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            None,
            tuple(types.CellType() for _ in cells) or None,
        )
        self._made[id(function)] = function, made
        changed = False
        for cell, own_cell in zip(cells, made.__closure__ or (), strict=True):
            try:
                held = cell.cell_contents
            except ValueError:  # an empty one
                continue
            own_cell.cell_contents = own = self._held(held)
            changed = changed or (own is not held and own is not made)
        defaults, keywords = function.__defaults__ or (), function.__kwdefaults__ or {}
        own_defaults = tuple(self._held(one) for one in defaults)
        own_keywords = {name: self._held(one) for name, one in keywords.items()}
        made.__defaults__, made.__kwdefaults__ = own_defaults or None, own_keywords or None
        made.__dict__.update(function.__dict__)
        changed = changed or not _same(own_defaults, defaults)
        if changed or not _same(list(own_keywords.values()), list(keywords.values())):
            return made
        self._made[id(function)] = function, function
        return function


def _same(some: Any, others: Any) -> bool:
    return all(a is b for a, b in zip(some, others, strict=True))
