"""Samples text from a language model."""

from collections.abc import Iterator

import torch
from torch import Tensor

from coordinator.inspection.saved_run import SavedRun
from dfa_core import JobError
from dfa_tasks.language.text import Tokenizer


def continue_text(
    run: SavedRun, tokenizer: Tokenizer, prompt: str, tokens: int, temperature: float, seed: int
) -> Iterator[str]:
    """Yield what comes behind the prompt, piece by piece: so many tokens in all.

    A piece ends where a character does: with byte pairs some tokens are parts of one.

    Raises JobError for an empty prompt, and for what the tokenizer does not know.
    """
    told = list(tokenizer.encode(prompt))
    if not told:
        raise JobError("--prompt: is empty; give at least one character")
    length, generator = len(run.sample), torch.Generator().manual_seed(seed)
    begun: list[int] = []
    for _ in range(tokens):
        context = told[-length:]
        padded = context + [0] * (length - len(context))  # what comes later is not looked at
        logits = run.outputs(torch.tensor([padded]))[0, len(context) - 1]
        told.append(_drawn(logits, temperature, generator))
        begun.append(told[-1])
        text = tokenizer.decode(begun)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text
            begun = []


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    chances = (logits / temperature).softmax(-1)
    return int(torch.multinomial(chances, 1, generator=generator))
