"""Whatever a model contains, blocks give the bits of the single-process reference."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.networks import Noise, rule
from support.pipelines import LOSS, assert_same_state, pipeline, save, saved, train
from support.random_networks import cuts, models, several_tensors
from torch.utils.data import TensorDataset

from coordinator.engine.pipeline import Pipeline
from dfa_core import FeedbackSpec, LearningRule, Model, Reference
from workers.placement import Worker

STEPS = 5
DATA = TensorDataset(*Noise().batch(3))
AT_ONCE = 7  # samples of a chunk: the last one is smaller


def evaluated(engine: Pipeline | Reference) -> list[torch.Tensor]:
    if isinstance(engine, Pipeline):
        return [output for output, _ in engine.outputs(DATA, AT_ONCE)]
    return [engine.evaluate(x) for x in DATA.tensors[0].split(AT_ONCE)]


def assert_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "networks",
    [
        pytest.param(30, marks=pytest.mark.ray),
        pytest.param(2000, marks=pytest.mark.endurance),
    ],
)
def test_random_networks_give_the_references_bits(
    four_workers: list[Worker], networks: int
) -> None:
    """Trained, evaluated, saved, and continued on another cut."""

    @settings(
        max_examples=networks,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def each(data: st.DataObject) -> None:
        more: dict[str, Any] = {"staleness": data.draw(st.sampled_from((0, 0, 1)))}
        if data.draw(st.integers(0, 5)):
            kind = data.draw(st.sampled_from(("random", "random", "target")))
            at = data.draw(st.sampled_from(("output", "output", "input")))
            model, more = (
                data.draw(models()),
                more | {"feedback": FeedbackSpec(kind), "error_at": at},
            )
        else:
            model = several_tensors(data.draw(st.integers(2, 4)))
        optimizer, microbatches = (
            data.draw(st.sampled_from(choices)) for choices in (("sgd", "adam"), (1, 2, 4))
        )
        r = rule(optimizer, microbatches, **more)
        one, two = (data.draw(cuts(len(model.layers))) for _ in range(2))
        try:
            agree(four_workers, model, r, one, two)
        except Exception as error:
            error.add_note(f"{model}, {r}, {one}, {two}")
            raise

    torch.manual_seed(0)  # some modules exist before the model that they are given to
    each()


def agree(
    workers: list[Worker],
    model: Model,
    r: LearningRule,
    one: list[tuple[int, int]],
    two: list[tuple[int, int]],
) -> None:
    reference = Reference(model, LOSS, r)
    expected = train(reference, 0, 2)
    early = evaluated(reference)
    expected += train(reference, 2, STEPS)
    with tempfile.TemporaryDirectory() as folder, pipeline(workers, model, r, one) as engine:
        engine.start(None)
        losses = train(engine, 0, 2)
        assert_equal(evaluated(engine), early)
        losses += train(engine, 2, 3)
        save(engine, Path(folder) / "middle", 3)
        losses += train(engine, 3, STEPS)
        assert losses == expected
        save(engine, Path(folder) / "end", STEPS)
        assert_same_state(Path(folder) / "end", reference.trained_modules())
        with pipeline(workers, model, r, two) as again:
            assert again.start(saved(Path(folder) / "middle")) == 3
            assert train(again, 3, STEPS) == expected[3:]
            assert_equal(evaluated(again), evaluated(reference))
