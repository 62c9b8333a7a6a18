"""Recommenders on blocks in Ray actors: the bits of the reference, and what they learn."""

from pathlib import Path

import pytest
import torch
from test_exact import assert_same_state
from torch import Tensor

from coordinator.checkpoint import write_checkpoint
from coordinator.feed import Feed
from coordinator.pipeline import Pipeline
from coordinator.plan import make_plan
from dfa_core import Head, LearningRule, Model, OptimizerSpec, Reference
from dfa_tasks.clicks import click_loss
from dfa_tasks.recommenders import afn, autoint, dcn, deepfm, features_linear, fm
from workers.actor import Shipment
from workers.placement import Worker
from workers.storage import LocalFolder

IDS, FIELDS, STEPS = 50, 5, 6
MODELS = {
    "linear": features_linear(IDS),
    "fm": fm(IDS, size=4),
    "deepfm": deepfm(IDS, FIELDS, size=4, widths=(8, 8)),
    "dcn": dcn(IDS, FIELDS, size=4, crosses=2, widths=(8,)),
    "autoint": autoint(IDS, FIELDS, size=4, attentions=2, attention_width=4, widths=(8,)),
    "afn": afn(IDS, FIELDS, size=4, neurons=6, widths=(8,)),
}


class RandomClicks:
    """Batches of random ids."""

    steps_per_epoch = 10

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, IDS, (24, FIELDS), generator=generator)
        return ids, (ids[:, 0] % 2).float()


@pytest.mark.parametrize("name", MODELS)
def test_any_number_of_blocks_gives_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, name: str
) -> None:
    model: Model = MODELS[name]
    rule = LearningRule(microbatches=2, optimizer=OptimizerSpec("adam", 1e-2))
    reference = Reference(model, click_loss, rule)
    expected = [reference.train_step(step, *RandomClicks().batch(step)) for step in range(STEPS)]
    assert expected[-1] != expected[0]
    for blocks in range(1, min(3, len(model.layers)) + 1):
        plan = make_plan(model, click_loss, rule, RandomClicks().batch(0), blocks)
        feed, head = Feed(RandomClicks(), 24, 2), Head(model, click_loss, rule)
        workers = four_workers[:blocks]
        engine = Pipeline(workers, plan, Shipment.pack(model), head, feed, rule, timeout_s=30)
        try:
            losses: list[float] = []
            engine.start(None)
            engine.train(0, STEPS, lambda _, loss, losses=losses: losses.append(loss))
            folder = tmp_path / f"{blocks}"
            write_checkpoint(LocalFolder(folder), STEPS, {}, (), engine.save, keep=1)
        finally:
            engine.close()
            feed.close()
        assert losses == expected
        assert_same_state(folder, reference.parts())
