"""Scores do not depend on the parts in which a data set is evaluated."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support.in_process import train_here
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from coordinator.engine.evaluation import evaluate
from dfa_core import JobError
from dfa_core.loss import WeightedLoss, settled
from dfa_core.scoring import PartReport, reports_of
from dfa_tasks import Splits, Task, accuracy
from dfa_tasks.source import chunks

SAMPLES, LENGTH = 300, 6


@dataclass
class Given:
    """An engine whose outputs are the inputs."""

    loss: WeightedLoss
    asked: list[int] = field(default_factory=list)

    def outputs(self, data: Dataset[Any], at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        self.asked.append(at_once)
        return chunks(data, at_once)

    def reports(
        self, data: Dataset[Any], at_once: int, metrics: Any, seed: int
    ) -> Iterator[Mapping[str, PartReport]]:
        return reports_of(self.outputs(data, at_once), self.loss, metrics, seed)


def token_loss(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


def token_accuracy(output: Tensor, target: Tensor) -> Tensor:
    kept = target != -100
    return ((output.argmax(-1) == target) & kept).sum() / kept.sum()


def precision(output: Tensor, target: Tensor) -> float:
    """Return a number that is no mean over parts, whatever they weigh."""
    said, true = (output.argmax(-1) == 1).numpy(), (target == 1).numpy()
    return float((said & true).sum() / max(1, said.sum()))


def root(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.mse_loss(output[..., 0].mean(1), (target == 0).float().mean(1)).sqrt()


def sorted_by_length() -> TensorDataset:
    """Long samples first, short ones then, at the end some of which nothing counts."""
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 2, (SAMPLES, LENGTH), generator=g)
    length = torch.randint(0, LENGTH + 1, (SAMPLES, 1), generator=g).sort(0, descending=True).values
    target[torch.arange(LENGTH) >= length] = -100
    return TensorDataset(torch.randn(SAMPLES, LENGTH, 2, generator=g), target)


@pytest.mark.parametrize("at_once", [2, 7, 64, 250, SAMPLES])
def test_any_parts_give_the_scores_of_the_whole(at_once: int) -> None:
    data = sorted_by_length()
    x, target = data.tensors
    measures: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "token accuracy": token_accuracy,
        "precision": precision,
        "root": root,
        "mean": lambda o, t: (o.argmax(-1) == t).float().mean(),
    }
    task = Task(
        nn.Sequential(), token_loss, Splits(data, data), measures, evaluated_at_once=at_once
    )
    engine: Any = Given(settled(token_loss, x[:8], target[:32].split(8)))
    found = evaluate(engine, task, data, seed=0)
    for name, measure in {"loss": token_loss, **measures}.items():
        assert found[name] == pytest.approx(float(measure(x, target)), rel=1e-5), name


def test_means_over_samples_keep_their_bits() -> None:
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(100, 3, generator=g), torch.randint(0, 3, (100,), generator=g))
    loss = nn.functional.cross_entropy
    task = Task(nn.Sequential(), loss, Splits(data, data), evaluated_at_once=37)
    engine: Any = Given(settled(loss, data.tensors[0][:8], data.tensors[1][:32].split(8)))
    parts = [(x, t) for x, t in chunks(data, 37)]
    expected = {
        name: sum(float(of(x, t)) * len(t) for x, t in parts) / 100
        for name, of in {"loss": loss, "accuracy": accuracy}.items()
    }
    assert evaluate(engine, task, data, seed=0) == expected


def test_nothing_to_learn_from_in_the_whole_data_is_as_in_plain_torch() -> None:
    data = TensorDataset(torch.randn(8, LENGTH, 2), torch.full((8, LENGTH), -100))
    task = Task(nn.Sequential(), token_loss, Splits(data, data), {}, evaluated_at_once=3)
    _, target = sorted_by_length().tensors
    engine: Any = Given(settled(token_loss, torch.randn(8, LENGTH, 2), target[:32].split(8)))
    assert str(evaluate(engine, task, data, seed=0)["loss"]) == "nan"


def contrastive(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output @ output.T, torch.arange(len(output))) + 0 * target[0]


def small_task(**more: Any) -> Task:
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(64, 4, generator=g), torch.zeros(64))
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    defaults = {"batch_size": 16, "epochs": 1, "blocks": 1}
    return Task(model, contrastive, Splits(data, data), {}, defaults=defaults, **more)


def test_a_loss_that_is_no_mean_of_its_parts_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        JobError, match=r"^microbatches: 4: the loss of a batch .*loss_weight.*to 1"
    ):
        train_here(small_task(), tmp_path / "a", microbatches=4)
    with pytest.raises(JobError, match=r"^evaluated_at_once: 40 of 64 .*evaluated_at_once=64$"):
        train_here(small_task(evaluated_at_once=40), tmp_path / "b", microbatches=1)
    train_here(small_task(), tmp_path / "c", microbatches=1)
    train_here(small_task(loss_weight=len), tmp_path / "d", microbatches=4)


def test_a_declared_weight_is_checked_where_it_is_used(tmp_path: Path) -> None:
    task = small_task(loss_weight=lambda target: -1.0)
    with pytest.raises(JobError, match=r"the loss's weight is -1 for targets of \(4,\)"):
        train_here(task, tmp_path, microbatches=4)


def test_a_metric_that_works_in_place_spoils_no_other(tmp_path: Path) -> None:
    def changing(output: Tensor, target: Tensor) -> Tensor:
        target.mul_(0)
        return output.sigmoid_().mean()

    def plain(output: Tensor, _: Tensor) -> Tensor:
        return output.sigmoid().mean()

    def least(output: Tensor, target: Tensor) -> float:
        return float(output.sigmoid_().min()) + int(target.sum())

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = Splits(*[TensorDataset(x, (x[:, 0] > 0).long())] * 2)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    task = Task(
        net,
        nn.functional.cross_entropy,
        data,
        metrics={"changing": changing, "plain": plain, "accuracy": accuracy},
        global_metrics={"least": least, "again": least},
        evaluated_at_once=10,
    )
    settings: dict[str, Any] = {"epochs": 20, "batch_size": 16, "optimizer": {"lr": 0.05}}
    scores = train_here(task, tmp_path, method="bp", **settings).metrics
    assert scores["changing"] == pytest.approx(scores["plain"])
    assert scores["accuracy"] > 0.7
    assert scores["least"] == scores["again"] > 1


def recall_of_3(output: Tensor, target: Tensor) -> float:
    hits = ((output.argmax(1) == 3) & (target == 3)).sum()
    return float(hits / (target == 3).sum().clamp(min=1))


@pytest.mark.parametrize("at_once", [1, 5, 8, 32])
def test_a_metric_that_the_first_parts_say_nothing_about_is_that_of_the_whole(
    at_once: int,
) -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (32,), generator=g).sort().values
    data = TensorDataset(torch.randn(32, 4, generator=g), target)
    task = Task(
        nn.Sequential(),
        nn.functional.cross_entropy,
        Splits(data, data),
        {"recall": recall_of_3, "constant": lambda _, __: 0.25, "accuracy": accuracy},
        evaluated_at_once=at_once,
    )
    engine: Any = Given(settled(nn.functional.cross_entropy, data.tensors[0][:8], [target[:4]]))
    found = evaluate(engine, task, data, seed=0)
    assert found["recall"] == pytest.approx(recall_of_3(*data.tensors))
    assert found["accuracy"] == pytest.approx(float(accuracy(*data.tensors)))
    assert found["constant"] == 0.25


def counted(output: Tensor, target: Tensor) -> Tensor:
    valid = target >= 0
    losses = nn.functional.cross_entropy(output[valid], target[valid], reduction="sum")
    return losses / len(valid.nonzero())


def test_a_mask_that_the_first_batch_does_not_use_is_noticed() -> None:
    """Its microbatches would count the same otherwise, also in a batch that does use it."""
    g = torch.Generator().manual_seed(0)
    output, target = torch.randn(8, 4, generator=g), torch.randint(0, 4, (8,), generator=g)
    found = settled(counted, output, target.split(4))
    rare = torch.where(torch.arange(8) < 3, -1, target)
    halves = list(zip(output.split(4), rare.split(4), strict=True))
    weights = [found.weigh(of) for _, of in halves]
    mean = sum(w * float(counted(o, t)) for w, (o, t) in zip(weights, halves, strict=True))
    assert found.flaw or mean / sum(weights) == pytest.approx(float(counted(output, rare)))


def test_samples_that_require_gradients_are_data_as_any_other(tmp_path: Path) -> None:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    scores = []
    for given in (x, x.clone().requires_grad_()):
        data = Splits(*[TensorDataset(given, (x[:, 0] > 0).long())] * 2)
        net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
        task = Task(net, nn.functional.cross_entropy, data)
        folder = tmp_path / f"{given.requires_grad}"
        scores.append(train_here(task, folder, method="bp", epochs=2, batch_size=16).metrics)
    assert scores[0].keys() == scores[1].keys()
    assert all(value == value for value in scores[1].values())  # noqa: PLR0124
