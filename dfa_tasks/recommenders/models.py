"""Recommenders as layers: FeaturesLinear, FM, DeepFM, DCN, AutoInt and AFN.

What a model adds directly to its output (the linear part, FM's pairs) learns by the global error,
which is its exact gradient. Every hidden layer learns by feedback (arXiv 2006.12878, appendix B).
With `head_layers` the last layers of the MLP belong to the head. The error is then taken at the
head's input, where it is a vector that depends on the whole sample. At the logit it is one number
per sample, and an embedding can learn only one number from it.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import nn

from dfa_core import JobError, Model
from dfa_core.model import ModuleFactory, chain
from dfa_tasks.recommenders.layers import (
    AppendAdded,
    Attention,
    Bias,
    Cross,
    Dense,
    Embedding,
    EmbeddingAndLinear,
    EmbeddingAndPairs,
    HeadInput,
    LinearPart,
    Logarithmic,
    LogarithmicEmbedding,
    Pairs,
    Reordered,
    SplitAdded,
    StreamCross,
    StreamStart,
    Sum,
)


def features_linear(ids: int) -> Model:
    """Return logistic regression."""
    return Model((partial(LinearPart, ids),), Bias)


def fm(ids: int, size: int = 16) -> Model:
    """Return a factorisation machine (Rendle 2010)."""
    return Model((partial(Pairs, ids, size),), Bias)


def deepfm(
    ids: int,
    fields: int,
    size: int = 16,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
) -> Model:
    """Return DeepFM (Guo 2017): FM and an MLP on the same embeddings."""
    layers: list[ModuleFactory] = [partial(EmbeddingAndPairs, ids, size)]
    layers += _dense(fields * size, widths, dropout)
    return _model(layers, partial(Sum, widths[-1]), head_layers, widths)


def dcn(
    ids: int,
    fields: int,
    size: int = 16,
    crosses: int = 3,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
    cross_error: bool = True,
) -> Model:
    """Return Deep & Cross (Wang 2017): cross layers, then an MLP; both read the embeddings.

    cross_error: with `head_layers`, the error at the head's input has columns for the cross layers'
        output, by which they learn. They form a residual stream, so this is exact for the last of
        them, and near for the others and for the embeddings (arXiv 2501.17086 with k = 0).
    """
    width, by_error = fields * size, cross_error and head_layers > 0
    start, cross = (StreamStart, StreamCross) if by_error else (Embedding, Cross)
    layers: list[ModuleFactory] = [partial(start, ids, size)]
    layers += [partial(cross, width)] * crosses
    layers += _dense(width, widths, dropout, order=(1, 0))
    head, added = partial(Sum, widths[-1], width), width if by_error else 0
    return _model(layers, head, head_layers, widths, added, exact=by_error)


def autoint(
    ids: int,
    fields: int,
    size: int = 16,
    attentions: int = 3,
    attention_width: int = 32,
    heads: int = 2,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
) -> Model:
    """Return AutoInt+ (Song 2019): attention between fields, an MLP, and the linear part."""
    layers: list[ModuleFactory] = [partial(EmbeddingAndLinear, ids, size)]
    for index, (a, b) in enumerate(pairwise([size] + [attention_width] * attentions)):
        layers.append(partial(Attention, a, b, heads, dropout, keep=index == 0))
    layers += _dense(fields * size, widths, dropout, order=(2, 0, 1))
    head = partial(Sum, widths[-1], fields * attention_width)
    return _model(layers, head, head_layers, widths)


def afn(
    ids: int,
    fields: int,
    size: int = 16,
    neurons: int = 64,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
    joint: bool = True,
) -> Model:
    """Return AFN (Cheng 2020): logarithmic neurons, an MLP, and the linear part.

    joint: with `head_layers`, embeddings and neurons are one layer, so that the embeddings learn
        through the neurons exactly; and the layer before the head learns by the error there.
    """
    joint = joint and head_layers > 0
    layers: list[ModuleFactory] = [partial(EmbeddingAndLinear, ids, size)]
    layers.append(partial(Logarithmic, fields, neurons))
    if joint:
        layers = [partial(LogarithmicEmbedding, ids, size, fields, neurons)]
    layers += _dense(neurons * size, widths, dropout)
    return _model(layers, partial(Sum, widths[-1]), head_layers, widths, exact=joint)


def _dense(
    features: int, widths: Sequence[int], dropout: float, order: tuple[int, ...] = ()
) -> list[ModuleFactory]:
    """Return the MLP's layers; order: of the inputs of its first layer."""
    layers: list[ModuleFactory] = [
        partial(Dense, a, b, dropout) for a, b in pairwise((features, *widths))
    ]
    if order:
        layers[0] = partial(Reordered, layers[0], order)
    return layers


def _model(
    layers: Sequence[ModuleFactory],
    head: ModuleFactory,
    head_layers: int,
    widths: Sequence[int],
    added: int = 1,
    exact: bool = False,
) -> Model:
    """Return a model of these layers, where the last `head_layers` of them belong to the head.

    widths: of the MLP's layers, which are the last ones.
    added: width of the head's last input if the error has columns for it: 1 for a term that the
        head adds to its output; otherwise 0.
    exact: whether the layer before the head learns by the error at its output, and not by feedback.
        The feedback of the layers before then projects the error of the MLP's features alone.

    Raises JobError when no layer of the MLP is left before the head.
    """
    if not 0 <= head_layers < len(widths):
        raise JobError(f"options.head_layers: {head_layers} is not between 0 and {len(widths) - 1}")
    if not head_layers:
        return Model(layers, head)
    cut = len(layers) - head_layers
    before, inside = [*layers[:cut]], [*layers[cut:], head]
    if exact:
        before = [partial(_reading, make, widths[-head_layers - 1]) for make in before]
    if added:
        before[-1] = partial(HeadInput.of if exact else chain, before[-1], AppendAdded)
        inside = [partial(SplitAdded, added), *inside]
    return Model(before, partial(chain, *inside))


def _reading(make: ModuleFactory, features: int) -> nn.Module:
    """Build a module whose feedback projects this number of the error's first features."""
    module = make()
    module.feedback_reads = features  # type: ignore[assignment]  # an attribute, no parameter
    return module
