"""Models of the transformers library on blocks: the reference's bits, and loadable exports."""

from pathlib import Path

import pytest
import torch
from support.same_bits import assert_bits
from support.transformers_models import MAIN, answer, inputs
from torch import Tensor, nn

from dfa_core import FeedbackSpec, LearningRule, OptimizerSpec, Reference
from dfa_tasks.hugging_face.model import cut, save_pretrained
from dfa_tasks.language.tasks import token_loss
from workers.placement import Worker

STEPS, SAMPLES = 20, 16


class Seen:
    """Batches of one set of samples; the answer is in the input."""

    steps_per_epoch = 1000

    def __init__(self, name: str) -> None:
        self._x, self._predicts = inputs(name, SAMPLES), name in ("gpt2", "llama")

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        if self._predicts:
            return self._x, self._x.roll(-1, dims=1)
        return self._x, self._x.flatten(1)[:, 0].long() % 3


@pytest.mark.ray
@pytest.mark.parametrize("name", MAIN)
def test_blocks_train_it_to_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, name: str
) -> None:
    of, config = MAIN[name]
    torch.manual_seed(0)
    model, source = cut(of(config)), Seen(name)
    loss = token_loss if name in ("gpt2", "llama") else nn.functional.cross_entropy
    rule = LearningRule(
        microbatches=2, optimizer=OptimizerSpec("adamw", 3e-3), sample_dims=2,
        feedback=FeedbackSpec("identity"), error_at="input",
    )  # fmt: skip
    losses = assert_bits(four_workers, tmp_path, model, loss, rule, source, (1, 2, 3), steps=STEPS)
    assert losses[-1] < 0.9 * losses[0]

    reference = Reference(model, loss, rule)
    for step in range(STEPS):
        reference.train_step(step, *source.batch(step))
    weights = {
        model.names[f"{place}.{key}"][0]: tensor
        for place, part in [
            *((f"layers.{i}", layer) for i, layer in enumerate(reference.layers)),
            ("head", reference.head),
        ]
        for key, tensor in part.module.state_dict().items()
    }
    save_pretrained(model, weights, tmp_path / "saved")
    there = of.from_pretrained(tmp_path / "saved", local_files_only=True)
    x = inputs(name, seed=1)
    torch.testing.assert_close(reference.evaluate(x), answer(there, x))
