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
    return _model(layers, partial(Sum, widths[-1]), head_layers, len(widths))


def dcn(
    ids: int,
    fields: int,
    size: int = 16,
    crosses: int = 3,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
    cross_error: bool = False,
) -> Model:
    """Return Deep & Cross (Wang 2017): cross layers, then an MLP; both read the embeddings.

    cross_error: the error at the head's input has columns for the cross layers' output, by which
        they learn. They form a residual stream, so this is exact for the last of them, and near
        for the others and for the embeddings (arXiv 2501.17086 with k = 0).

    Raises JobError for cross_error with the error at the logit.
    """
    if cross_error and not head_layers:
        raise JobError("options.cross_error: there is no such error at the logit; set head_layers")
    width = fields * size
    start, cross = (StreamStart, StreamCross) if cross_error else (Embedding, Cross)
    layers: list[ModuleFactory] = [partial(start, ids, size)]
    layers += [partial(cross, width)] * crosses
    layers += _dense(width, widths, dropout, order=(1, 0))
    head, added = partial(Sum, widths[-1], width), width if cross_error else 0
    return _model(layers, head, head_layers, len(widths), added, exact=cross_error)


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
    return _model(layers, head, head_layers, len(widths))


def afn(
    ids: int,
    fields: int,
    size: int = 16,
    neurons: int = 64,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
    joint: bool = False,
) -> Model:
    """Return AFN (Cheng 2020): logarithmic neurons, an MLP, and the linear part.

    joint: embeddings and neurons are one layer, so that the embeddings learn exactly through the
        neurons; and the layer before the head learns by the error at the head's input, exactly too.

    Raises JobError for joint with the error at the logit.
    """
    if joint and not head_layers:
        raise JobError("options.joint: it needs the error at the head's input; set head_layers")
    layers: list[ModuleFactory] = [partial(EmbeddingAndLinear, ids, size)]
    layers.append(partial(Logarithmic, fields, neurons))
    if joint:
        layers = [partial(LogarithmicEmbedding, ids, size, fields, neurons)]
    layers += _dense(neurons * size, widths, dropout)
    return _model(layers, partial(Sum, widths[-1]), head_layers, len(widths), exact=joint)


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
    depth: int,
    added: int = 1,
    exact: bool = False,
) -> Model:
    """Return a model of these layers, where the last `head_layers` of them belong to the head.

    depth: number of the MLP's layers, which are the last ones.
    added: width of the head's last input if the error has columns for it: 1 for a term that the
        head adds to its output; otherwise 0.
    exact: whether the layer before the head learns by the error at its output, and not by feedback.

    Raises JobError when no layer of the MLP is left before the head.
    """
    if not 0 <= head_layers < depth:
        raise JobError(f"options.head_layers: {head_layers} is not between 0 and {depth - 1}")
    if not head_layers:
        return Model(layers, head)
    cut = len(layers) - head_layers
    before, inside = [*layers[:cut]], [*layers[cut:], head]
    if added:
        before[-1] = partial(HeadInput.of if exact else chain, before[-1], AppendAdded)
        inside = [partial(SplitAdded, added), *inside]
    return Model(before, partial(chain, *inside))
