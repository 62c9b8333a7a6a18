"""A model trained on one block and on several, held against the single-process reference."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from support.pipelines import assert_same_state

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.pipeline import Pipeline
from coordinator.engine.plan import make_plan
from coordinator.runs.checkpoint import write_checkpoint
from coordinator.runs.state import RunState
from dfa_core import Head, LearningRule, Model, Reference
from dfa_core.loss import Loss
from dfa_tasks import BatchSource
from workers.payload import PickledPayload
from workers.placement import Worker
from workers.storage import LocalFolder


def assert_bits(
    workers: list[Worker],
    tmp_path: Path,
    model: Model,
    loss: Loss,
    rule: LearningRule,
    source: BatchSource,
    each: Sequence[int],
    steps: int = 5,
) -> list[float]:
    """Blocks train like the reference, loss by loss, and end with its state; return the losses.

    each: numbers of blocks.
    """
    reference = Reference(model, loss, rule)
    reference.settle_loss(*source.batch(0))
    expected = [reference.train_step(step, *source.batch(step)) for step in range(steps)]
    assert expected[-1] != expected[0]
    samples = len(source.batch(0)[0])
    for blocks in each:
        plan = make_plan(model, loss, rule, source.batch(0), blocks)
        plan = replace(plan, schedule="zero_bubble" if rule.method == "bp" else plan.schedule)
        prefetcher = Prefetcher(source, samples, rule.microbatches)
        head = Head(model, plan.profile.loss, rule)
        shipped = PickledPayload.pack(model)
        engine = Pipeline(workers[:blocks], plan, shipped, head, prefetcher, timeout_s=30)
        losses: list[float] = []
        on_step: Callable[[int, float], None] = lambda _, loss, to=losses: to.append(loss)  # noqa: E731
        try:
            engine.start(None)
            engine.train(0, steps, on_step)
            folder = LocalFolder(tmp_path / f"{blocks}")
            write_checkpoint(folder, RunState(steps), {}, engine.save, keep=1)
        finally:
            engine.close()
            prefetcher.close()
        assert losses == expected
        assert_same_state(tmp_path / f"{blocks}", reference.trained_modules())
    return expected
