"""The tasks of language modelling: a Transformer for each text."""

import inspect
import math
from functools import partial
from typing import Any, get_args

from torch import Tensor, nn

from dfa_core import JobError
from dfa_core.rule import ErrorAt
from dfa_tasks.language.corpora import Chunks, prepared
from dfa_tasks.language.text import load_tokenizer
from dfa_tasks.language.transformer import transformer
from dfa_tasks.options import check_options, settings_of
from dfa_tasks.task import Installed, Splits, Task


def language_task(corpus: str, data_dir: str = "", **options: Any) -> Task:
    """Return a Transformer that predicts a text's next token.

    options: those of the Transformer: length, blocks, width, heads, hidden, dropout, points,
        attention, norm_first, embedding_point, spread; and error_at, which says whether the global
        error is taken at the input or at the output of the map to the vocabulary.

    Raises JobError for an unknown option.
    """
    known = [name for name in inspect.signature(transformer).parameters if name != "tokens"]
    known.append("error_at")
    check_options(corpus, options, known)
    settings = settings_of("language")[corpus]
    chosen = {"error_at": "input", **settings["options"], **options}
    error_at = chosen.pop("error_at")
    if error_at not in get_args(ErrorAt):
        raise JobError(f"options.error_at: '{error_at}' must be input or output")
    tokenizer = load_tokenizer(prepared(corpus, data_dir)[0])
    length = int(chosen["length"])
    return Task(
        model=transformer(tokenizer.size, **chosen),
        loss=token_loss,
        data=partial(_splits, corpus, data_dir, length),
        metrics={"accuracy": token_accuracy},
        derived_metrics={"perplexity": math.exp},
        error_at=error_at,
        sample_dims=2,
        evaluated_at_once=samples_at_once(length, tokenizer.size),
        files={"tokenizer.json": tokenizer.to_json()},
        defaults=settings["defaults"],
    )


def samples_at_once(length: int, tokens: int) -> int:
    """Return how many samples of `length` tokens an evaluation runs together.

    tokens: size of the vocabulary.
    """
    return max(2, min(64, _LOGITS // (length * tokens)))


def token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy per token, in nats; logits: (n, t, tokens), target: (n, t)."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def token_accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the share of tokens that are predicted correctly."""
    return (logits.argmax(dim=-1) == target).float().mean()


def _splits(corpus: str, data_dir: str, length: int) -> Splits:
    _, splits = prepared(corpus, data_dir)
    return Splits(**{name: Chunks(tokens, length, name) for name, tokens in splits.items()})


_LOGITS = 4_000_000  # of the samples that an evaluation runs together: 16 MB

_TITLES = {
    "tiny-shakespeare": "Tiny Shakespeare, the next character",
    "wikitext-2": "WikiText-2, the next token of 8,000 (your files)",
    "wikitext-103": "WikiText-103, the next token of 32,000 (your files)",
}
INSTALLED = {
    corpus: Installed(partial(language_task, corpus), f"{title}: Transformer")
    for corpus, title in _TITLES.items()
}
