"""A Transformer with a vocabulary of 8,000, whose head is a third of all computing.

$ errorcast bench benchmarks/vocabulary.py:make_task --blocks 2 --microbatches 4,8
$ errorcast plan benchmarks/vocabulary.py:make_task --workers 2,4,8,16
"""

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from dfa_tasks import Splits, Task
from dfa_tasks.language.transformer import transformer

LENGTH = 32


def token_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy; output: (samples, tokens, vocabulary)."""
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


def random_text(vocabulary: int) -> Splits:
    """Return chunks of random tokens: a step takes as long on them as on a real text."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, vocabulary, (128, LENGTH + 1), generator=generator)
    data = TensorDataset(text[:, :-1], text[:, 1:])
    return Splits(data, TensorDataset(*data[:8]))


def make_task(width: int = 256, vocabulary: int = 8000, blocks: int = 6) -> Task:
    """Return the task: identity feedback, the error at the head's input, one layer a block."""
    return Task(
        model=transformer(
            vocabulary,
            length=LENGTH,
            blocks=blocks,
            width=width,
            hidden=4 * width,
            dropout=0.0,
            points=1,
        ),
        loss=token_loss,
        data=lambda: random_text(vocabulary),
        metrics={},
        error_at="input",
        sample_dims=2,
        defaults={
            "batch_size": 32,
            "epochs": 1,
            "microbatches": 16,
            "feedback": {"kind": "identity"},
        },
    )
