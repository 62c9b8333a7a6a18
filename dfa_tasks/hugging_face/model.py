"""A transformers model as a dfa_core.Model: the embedding and each block a layer, then the head."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfa_core import JobError, Model
from dfa_core.building.zero_weights import is_close, without_zero_weights
from dfa_core.errors import reason
from dfa_core.seeding import drawing_from
from dfa_tasks.hugging_face.library import transformers
from dfa_tasks.hugging_face.pieces import TransformerBlock, TransformerEmbedding, TransformerHead
from dfa_tasks.hugging_face.skeleton import (
    Layout,
    Skeleton,
    run,
    shared_copy,
    skeleton_of,
    varied_input,
)

_ROUNDING = 1e-4  # of a check, relative to the largest output
_MOST_TRIED = 100_000_000  # parameters of a model that is built as a whole to check its pieces


@dataclass(frozen=True)
class TransformersModel(Model):
    """The pieces of a model, and what its files need.

    of: the model's class.
    config: the library's, with tie_word_embeddings off if the model ties its head to its embedding:
        here they are two weights, which are trained apart.
    tied: the names of such weights of the head, and of the embedding's.
    """

    of: type[nn.Module] = nn.Module
    config: Any = None
    tied: Mapping[str, str] | None = None


def is_transformers(model: object) -> bool:
    """Return whether this is a model of the transformers library."""
    return any(kind.__module__ == "transformers.modeling_utils" for kind in type(model).__mro__)


def cut(model: nn.Module, pad: int | None = None) -> TransformersModel:
    """Cut a model of the transformers library into its embedding, its blocks and its head.

    The pieces start from the model's weights, in training mode. Chained, they compute what the
    model computes: that is tried here on a short input.

    model: takes input_ids, (n, t), or pixel_values, (n, channels, height, width), and has one stack
        of blocks, such as GPT-2, Llama, BERT and ViT.
    pad: the token id of padding, which no token attends to; None: the input has none.

    Raises JobError for a model that cannot be cut so.
    """
    _check_settings(model, pad)
    with _refusing(type(model)):
        skeleton = skeleton_of(model)
        head = TransformerHead(skeleton, pad)
        pieces: list[nn.Module] = [
            TransformerEmbedding(skeleton, pad),
            *(TransformerBlock(skeleton, index, pad) for index in range(skeleton.layout.blocks)),
            head,
        ]
        _check(model, pieces, pad)
        _untied(head, skeleton)
    for piece in pieces:
        piece.train()  # the library loads models in evaluation mode
    factories = [partial(_existing, piece) for piece in pieces]
    return _model(skeleton, factories, pieces)


def from_config(of: type[nn.Module], config: Any, pad: int | None = None) -> TransformersModel:
    """Return a model of the transformers library whose pieces are built where they live.

    Each piece starts as the library initialises it, with random numbers of (seed, layer). No
    process holds the whole model, unless it is small: then it is built once, for the check of
    cut().

    of: the model's class, such as transformers.GPT2LMHeadModel; config: the library's.
    pad: as for cut().

    Raises JobError as cut().
    """
    with _refusing(of):
        skeleton = skeleton_of(_empty(of, config))
    _check_settings(skeleton.model, pad)
    if sum(p.numel() for p in skeleton.model.parameters()) <= _MOST_TRIED:
        with drawing_from(0):
            cut(of(copy.deepcopy(config)), pad)
    makers: list[Callable[[Skeleton], nn.Module]] = [
        partial(TransformerEmbedding, pad=pad),
        *(
            partial(TransformerBlock, index=index, pad=pad)
            for index in range(skeleton.layout.blocks)
        ),
        partial(TransformerHead, pad=pad),
    ]
    pieces = [make(skeleton) for make in makers]
    names = [[first for first, *_ in own.values()] for own in _names(skeleton, pieces)]
    factories = [
        partial(_initialised, of, config, make, own, skeleton.layout)
        for make, own in zip(makers, names, strict=True)
    ]
    return _model(skeleton, factories, pieces)


def check_causal(of: type[nn.Module], config: Any) -> None:
    """Raise JobError for a class whose tokens attend to later ones, such as BERT's by default.

    A model of one block, with this width and vocabulary, is tried on a short input.
    """
    small: Any = copy.deepcopy(config)
    small.num_hidden_layers = 1
    if getattr(small, "layer_types", None):
        small.layer_types = small.layer_types[:1]
    with _refusing(of), drawing_from(0):
        model: Any = of(small).eval()
        x = varied_input(model, None)[:1]
        other = x.clone()
        other[0, -1] = (x[0, -1] + 1) % model.get_input_embeddings().num_embeddings
        with torch.no_grad():
            before, after = (run(model, ids)[:, :-1] for ids in (x, other))
    if not torch.allclose(before, after, rtol=_ROUNDING, atol=_ROUNDING):
        raise JobError(
            f"options.model: {of.__name__} with this configuration looks at later tokens, so it "
            f"cannot learn to continue a text (is_decoder is false)"
        )


def save_pretrained(model: TransformersModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write a folder that from_pretrained() loads; weights: by the library's names.

    Raises JobError if they are not those of the model.
    """
    transformers()  # without its progress bars
    with torch.device("meta"):
        whole: Any = model.of(copy.deepcopy(model.config))
    wrong = whole.load_state_dict(dict(weights), strict=False, assign=True)
    for names in wrong:
        if names:
            raise JobError(f"the weights do not fit {model.of.__name__}: {names[0]}")
    whole.save_pretrained(folder)


def _model(skeleton: Skeleton, factories: list[Any], pieces: list[nn.Module]) -> TransformersModel:
    config: Any = copy.deepcopy(skeleton.model.config)
    tied = skeleton.tied()
    if tied:
        config.tie_word_embeddings = False
    return TransformersModel(
        layers=factories[:-1],
        head=factories[-1],
        names={name: own for part in _names(skeleton, pieces) for name, own in part.items()},
        of=type(skeleton.model),
        config=config,
        tied=tied,
    )


def _names(skeleton: Skeleton, pieces: Sequence[nn.Module]) -> list[dict[str, tuple[str, ...]]]:
    """Return the library's names of each piece's weights; a tied one has the embedding's too."""
    tied, found = skeleton.tied(), []
    for index, piece in enumerate(pieces):
        place = "head" if index == len(pieces) - 1 else f"layers.{index}"
        names: dict[str, tuple[str, ...]] = {}
        for name in piece.state_dict():
            kind, _, own = name.partition(".")
            full = own if kind == "model" else f"{skeleton.layout.stack}.{index - 1}.{own}"
            names[f"{place}.{name}"] = (full, tied[full]) if full in tied else (full,)
        found.append(names)
    return found


def _untied(head: TransformerHead, skeleton: Skeleton) -> None:
    """Give a head its own copies of the weights that it has from the embedding."""
    own: dict[int, nn.Parameter] = {}
    for name in skeleton.tied():
        place, _, weight = name.rpartition(".")
        part = head.model.get_submodule(place)
        shared: nn.Parameter = getattr(part, weight)
        copied = nn.Parameter(shared.detach().clone(), shared.requires_grad)
        part._parameters[weight] = own.setdefault(id(shared), copied)


def _check_settings(model: Any, pad: int | None) -> None:
    """Raise JobError for what pieces cannot do."""
    name = type(model).__name__
    if getattr(model, "is_gradient_checkpointing", False):
        raise JobError(
            f"{name} has gradient checkpointing on; call its gradient_checkpointing_disable(), and "
            f"set resources.recompute to true instead"
        )
    if getattr(model.config, "layerdrop", 0):
        raise JobError(f"{name} skips blocks at random; set layerdrop to 0 in its config")
    if pad is not None and model.main_input_name != "input_ids":
        raise JobError(f"pad: {name} takes {model.main_input_name}, and padding is for token ids")


@contextmanager
def _refusing(of: type[nn.Module]) -> Iterator[None]:
    """Raise JobError where a model fails while it is taken apart."""
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        raise JobError(
            f"{of.__name__} cannot be cut into its blocks: {reason(error)}; give the task "
            f"layers_of=, which returns its layers and its head"
        ) from error


def _check(model: nn.Module, pieces: list[nn.Module], pad: int | None) -> None:
    """Raise JobError where the pieces do not compute what the model does."""
    whole = shared_copy(model).eval()
    parts = [shared_copy(piece).eval() for piece in pieces]
    x = varied_input(model, pad)
    mask = None if pad is None else x != pad
    with torch.no_grad(), without_zero_weights(model):
        expected, h = run(whole, x, mask), (x,)
        for part in parts:
            out = part(*h)
            h = out if isinstance(out, tuple) else (out,)
    if not is_close(h[0], expected, _ROUNDING):
        hint = "" if pad is not None else "; if it looks for padding, cut(model, pad=ID) may do"
        raise JobError(
            f"{type(model).__name__} computes something else when it is cut after its blocks: more "
            f"than the hidden states goes past them; give the task layers_of=, which returns its "
            f"layers and its head{hint}"
        )


def _existing(piece: nn.Module) -> nn.Module:
    return piece


def _empty(of: type[nn.Module], config: Any) -> nn.Module:
    """Build a model whose weights are zeros without memory of their own; buffers are right."""
    with torch.device("meta"):
        model = of(copy.deepcopy(config))
    zeros: dict[int, nn.Parameter] = {}
    for part in model.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                value = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
                part._parameters[name] = own = zeros.setdefault(id(weight), nn.Parameter(value))
                own._is_hf_initialized = True  # type: ignore[attr-defined]  # the library keeps it
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.zeros_like(buffer, device="cpu")
    _initialise(model)  # computes the buffers
    return model


def _initialise(model: Any) -> None:
    """Let the library initialise what is not marked as initialised."""
    for part in model.modules():
        vars(part).pop("_is_hf_initialized", None)
    model.initialize_weights()


def _initialised(
    of: type[nn.Module], config: Any, make: Any, names: Sequence[str], layout: Layout
) -> nn.Module:
    """Build a piece and initialise it as the library does; names: of its weights in the model."""
    model = _empty(of, config)
    fresh: dict[int, nn.Parameter] = {}
    for name in names:
        place, _, own = name.rpartition(".")
        part = model.get_submodule(place)
        weight = part._parameters.get(own)
        if weight is not None:
            value = torch.zeros(weight.shape, dtype=weight.dtype)
            part._parameters[own] = fresh.setdefault(id(weight), nn.Parameter(value))
    _initialise(model)
    piece: nn.Module = make(Skeleton(model, layout))
    return piece.train()
