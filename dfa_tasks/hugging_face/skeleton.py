"""What a transformers model consists of: its stack of blocks, and what runs before and after it."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfa_core import JobError

_TOKENS = 4  # of the input of a trial
_TOKENS_VARIED = 7  # of the input on which pieces and whole are compared


class BlockReached(Exception):
    """A forward has reached a block: what the block was called with."""

    def __init__(self, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.hidden, self.args, self.kwargs = hidden, args, kwargs


class _StandIn(nn.Module):
    """Takes a block's place, with the block's plain attributes, which a model may ask for."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        own = {
            n: v for n, v in vars(block).items() if not n.startswith("_") and n not in vars(self)
        }
        self.__dict__.update(own)


class StopHere(_StandIn):
    """Ends the forward at a block."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Raise BlockReached with the arguments."""
        hidden, *others = args or (kwargs.pop("hidden_states"),)
        raise BlockReached(hidden, tuple(others), kwargs)


class PassOn(_StandIn):
    """Passes on what a block gets, or `instead`."""

    def __init__(self, block: nn.Module, returns_tuple: bool) -> None:
        super().__init__(block)
        self._returns_tuple = returns_tuple
        self.instead: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the hidden states in the form in which a block returns them."""
        hidden = args[0] if args else kwargs["hidden_states"]
        hidden = hidden if self.instead is None else self.instead
        return (hidden,) if self._returns_tuple else hidden


@dataclass(frozen=True)
class Layout:
    """Where the parts of a model are.

    stack: name of the ModuleList of its blocks; blocks: how many they are.
    before: names of the parameters and buffers outside the stack that run before it; all others
        belong to the head.
    returns_tuple: whether a block returns a tuple instead of a tensor.
    """

    stack: str
    blocks: int
    before: frozenset[str]
    returns_tuple: bool


@dataclass(frozen=True)
class Skeleton:
    """A transformers PreTrainedModel, and where its parts are."""

    model: nn.Module
    layout: Layout

    @property
    def class_name(self) -> str:
        """Return the name of the model's class."""
        return type(self.model).__name__

    def tied(self) -> dict[str, str]:
        """Return, by the name of each weight of the head, the embedding's that is the same."""
        before = self.layout.before
        names = {id(p): n for n, p in self._outside() if n in before}
        found = {n: names.get(id(p)) for n, p in self._outside() if n not in before}
        return {name: other for name, other in found.items() if other is not None}

    def _outside(self) -> Iterator[tuple[str, Tensor]]:
        return outside(self.model, self.layout.stack)


def outside(model: nn.Module, stack: str) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of all parameters and stored buffers outside the blocks."""
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not name.startswith(f"{stack}."):
            yield name, tensor


def skeleton_of(model: nn.Module) -> Skeleton:
    """Find the parts of a transformers model; one short forward without its blocks shows them.

    Raises JobError for a model that does not send its hidden states through one stack of blocks,
    each once and in their order.
    """
    stack = _stack(model)
    count = len(_blocks(model, stack))
    returns_tuple = _returns_tuple(model, stack)
    trial = shared_copy(model)
    blocks = _blocks(trial, stack)
    seen: list[int] = []
    for index in range(count):
        blocks[index] = PassOn(blocks[index], returns_tuple)
        blocks[index].register_forward_pre_hook(lambda *_, at=index: seen.append(at))
    before: set[str] = set()
    for name, part in trial.named_modules():
        part.register_forward_pre_hook(_noting(name, part, seen, before))
    run(trial, trial_input(trial, 1, _TOKENS))
    if seen != list(range(count)):
        raise JobError(
            f"{type(model).__name__} does not run its {count} blocks ({stack}) once each, in "
            f"their order; give the task layers_of=, which returns its layers and its head"
        )
    inside = {name for name, _ in outside(model, stack)}
    return Skeleton(model, Layout(stack, count, frozenset(before & inside), returns_tuple))


def _noting(name: str, part: nn.Module, seen: list[int], before: set[str]) -> Any:
    """Return a hook that notes a module's own weights if no block has run yet."""
    own = [
        n for n, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
    ]
    names = {f"{name}.{n}".lstrip(".") for n in own}

    def note(*_: object) -> None:
        if not seen:
            before.update(names)

    return note


def _stack(model: nn.Module) -> str:
    found = [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.ModuleList) and len(part) and all(map(_is_block, part))
    ]
    if len(found) != 1:
        has = " and ".join(found) or "none"
        raise JobError(
            f"{type(model).__name__} has {len(found)} stacks of blocks ({has}); errorcast cuts "
            f"models with one; give the task layers_of=, which returns its layers and its head"
        )
    return str(found[0])


def _is_block(part: nn.Module) -> bool:
    """Return whether the library treats this module as a block; so it does for all its models."""
    return any(kind.__name__ == "GradientCheckpointingLayer" for kind in type(part).__mro__)


def _blocks(model: nn.Module, stack: str) -> Any:
    return model.get_submodule(stack)


def _returns_tuple(model: nn.Module, stack: str) -> bool:
    trial = shared_copy(model)
    first = _blocks(trial, stack)[0]
    _blocks(trial, stack)[0] = StopHere(first)
    with torch.no_grad():
        try:
            run(trial, trial_input(trial, 1, _TOKENS))
        except BlockReached as reached:
            # weights that are one number expanded cannot be used by all operations
            first.load_state_dict(
                {n: t.contiguous() for n, t in first.state_dict().items()}, assign=True
            )
            return isinstance(first(reached.hidden, *reached.args, **reached.kwargs), tuple)
    raise JobError(f"{type(model).__name__} never calls its first block ({stack}.0)")


def shared_copy(model: nn.Module) -> nn.Module:
    """Return a copy whose structure may be changed; its weights are the model's own."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters()})


def trial_input(model: nn.Module, samples: int, tokens: int) -> Tensor:
    """Return an input without meaning: (samples, tokens) ids, or (samples, channels, h, w) pixels.

    Raises JobError for a model whose main input is neither.
    """
    config: Any = model.config
    match getattr(model, "main_input_name", ""):
        case "input_ids":  # no padding: the library would warn of it
            token = int(getattr(config, "pad_token_id", None) == 0)
            return torch.full((samples, tokens), token)
        case "pixel_values":
            size = config.image_size
            height, width = (size, size) if isinstance(size, int) else tuple(size)
            return torch.zeros(samples, config.num_channels, height, width)
        case other:
            raise JobError(
                f"{type(model).__name__} takes '{other}'; errorcast cuts models that take "
                f"input_ids or pixel_values; give the task layers_of= for others"
            )


def varied_input(model: nn.Module, pad: int | None) -> Tensor:
    """Return an input of two samples that differ everywhere, the second with padding at its end.

    pad: its token id; None: that of the model's configuration, if there is one.
    """
    draws = torch.Generator().manual_seed(0)
    x = trial_input(model, 2, _TOKENS_VARIED)
    if x.is_floating_point():
        return torch.randn(x.shape, generator=draws)
    library: Any = model
    words = int(library.get_input_embeddings().num_embeddings)
    own = getattr(library.config, "pad_token_id", None)
    x = torch.randint(words, x.shape, generator=draws)
    for padding in (pad, own):
        x = torch.where(x == padding, (x + 1) % words, x) if padding is not None else x
    padding = own if pad is None else pad
    if padding is not None and 0 <= padding < words:
        x[1, -2:] = padding
    return x


def run(model: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the model's output, (samples, ...): its logits, or its last hidden states.

    mask: (samples, tokens), 1 for a token and 0 for padding.
    """
    library: Any = model
    given: dict[str, Any] = {library.main_input_name: x}
    if mask is not None:
        given["attention_mask"] = mask
    if hasattr(library.config, "use_cache"):
        given["use_cache"] = False
    out = model(**given)
    if "logits" in out:
        return _tensor(out["logits"])
    if "start_logits" in out:
        return torch.stack([out["start_logits"], out["end_logits"]], dim=-1)
    return _tensor(out[0])


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise JobError(f"a model must return a tensor of outputs, not {type(value).__name__}")
    return value
