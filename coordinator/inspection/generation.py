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
    """Yield the text that follows the prompt, in pieces of whole characters.

    With byte pairs a character may take several tokens.

    tokens: the number of tokens to generate.
    temperature: divides the logits; 0 always takes the most likely token.

    Raises JobError for an empty prompt, and for text that the tokenizer cannot encode.
    """
    history = list(tokenizer.encode(prompt))
    if not history:
        raise JobError("--prompt: is empty; give at least one character")
    length, generator = len(run.sample), torch.Generator().manual_seed(seed)
    pending: list[int] = []
    for _ in range(tokens):
        context = history[-length:]
        # the model is causal, so padding has no effect
        padded = context + [0] * (length - len(context))
        logits = run.outputs(torch.tensor([padded]))[0, len(context) - 1]
        history.append(_drawn(logits, temperature, generator))
        pending.append(history[-1])
        text = tokenizer.decode(pending)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text
            pending = []


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    probabilities = (logits / temperature).softmax(-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))
