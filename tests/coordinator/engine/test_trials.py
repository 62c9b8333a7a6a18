"""What is wrong with a part of the data is found before the first step, by the name of the part."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.in_process import train_here
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from dfa_core import JobError
from dfa_tasks import Splits, Task, accuracy

CLASSES = 3


def samples(n: int, seed: int, size: int = 10) -> TensorDataset:
    x = torch.randn(n, size, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] > 0).long())


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(samples(64, 1))

    def __len__(self) -> int:
        return 64


class Changed(Dataset[Any]):
    """Samples of which something was changed."""

    def __init__(self, change: Callable[[int, Tensor, Tensor], Any]) -> None:
        self.data, self.change = samples(64, 1), change

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.change(index, *self.data[index])


class Own(TensorDataset):
    """Makes its samples itself."""

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        x, target = super().__getitem__(index)
        return torch.cat([x, x]), target


def relabelled(label: int) -> TensorDataset:
    x, target = samples(500, 1).tensors
    target = target.clone()
    target[333] = label  # one of five hundred
    return TensorDataset(x, target)


def fails(index: int, x: Tensor, y: Tensor) -> Any:
    raise KeyError("no such file")


x, y = samples(64, 1).tensors
WRONG: dict[str, tuple[Any, str]] = {
    "none": (None, "None"),
    "loader": (DataLoader(samples(64, 1)), "is a DataLoader.* give its dataset"),
    "stream": (Stream(), "is a Stream"),
    "dict": ({"x": x, "y": y}, "is a dict"),
    "empty": (Subset(samples(64, 1), []), "is empty"),
    "arrays": ((x.numpy(), y.numpy()), "is a tuple of ndarray.*TensorDataset"),
    "triple": (Changed(lambda i, x, y: (x, y, i)), "sample .* is a tuple of 3; it must be a pair"),
    "three tensors": (TensorDataset(x, y, y), "is a tuple of 3"),
    "dicts": (Changed(lambda i, x, y: {"x": x, "y": y}), "is a dict of x, y; it must be a pair"),
    "two inputs": (Changed(lambda i, x, y: ((x, x), y)), "the input .* is a tuple of 2"),
    "inputs by name": (Changed(lambda i, x, y: ({"a": x}, y)), "the input .* is a dict of a"),
    "no target": (Changed(lambda i, x, y: (x, None)), "None"),
    "names": (Changed(lambda i, x, y: (x, "cat")), "the target .* is a str"),
    "raises": (Changed(fails), "sample .* failed: KeyError: 'no such file'"),
    "uneven": (Changed(lambda i, x, y: (x[: 10 - i % 2], y)), "make no batch"),
    "wide": (
        samples(64, 1, 12),
        "fails on an input of .*12.* float32: mat1 and mat2 shapes cannot be multiplied",
    ),
    "own": (Own(x, y), "fails on an input of .*20"),
    "float64": (TensorDataset(x.double(), y), "float64.*same dtype"),
    "images": (TensorDataset(x.view(64, 1, 10).long(), y), "fails on an input"),
    "int32 labels": (TensorDataset(x, y.int()), "targets of .* int32"),
    "float labels": (
        TensorDataset(x, y.float()),
        "targets of .* float32: expected target dtype to be Long or Byte, but got Float",
    ),
    "columns": (TensorDataset(x, y.unsqueeze(1)), r"targets of \(\d+, 1\)"),
    "one label": (relabelled(CLASSES), "Target 3 is out of bounds"),
    "a negative label": (relabelled(-1), "Target -1 is out of bounds"),
    "a label of a subset": (Subset(relabelled(7), range(300, 400)), "Target 7 is out of bounds"),
}


def task(splits: Splits, **more: Any) -> Task:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, CLASSES))
    return Task(net, nn.functional.cross_entropy, splits, **more)


def splits_with(data: Any, part: str) -> Splits:
    parts = {"train": samples(320, 0), "test": samples(64, 2), part: data}
    return Splits(**parts)


JOB: dict[str, Any] = {"batch_size": 32, "epochs": 1, "blocks": 1}


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_data_is_refused_before_the_first_step(tmp_path: Path, kind: str, part: str) -> None:
    data, message = WRONG[kind]
    if (kind, part) == ("none", "validation"):
        pytest.skip("no validation data is right")
    if (kind, part) == ("stream", "train"):
        pytest.skip("an iterable may be trained on")
    named = f"the {'training' if part == 'train' else part} data"
    if (kind, part) == ("empty", "train"):
        named, message = "batch_size: 32", "the 0 training samples"
    with pytest.raises(JobError, match=rf"{named}.*({message})") as raised:
        train_here(task(splits_with(data, part)), tmp_path, **JOB)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "checkpoints").exists()


class Sizeless(TensorDataset):
    def __len__(self) -> int:
        raise ValueError("unknown")


# the lines that docs/how-to/data.md promises, and the wrong data that gets each
PROMISED: dict[str, Any] = {
    "the test data is a DataLoader": WRONG["loader"][0],
    "it must be a pair (input, target)": WRONG["triple"][0],
    "it must be one tensor": WRONG["two inputs"][0],
    "Target 3 is out of bounds": WRONG["one label"][0],
    "must have the same dtype": WRONG["float64"][0],
    "give the task metrics=": TensorDataset(x, torch.full((64, CLASSES), 1 / CLASSES)),
    "has no length": Sizeless(x, y),
}


@pytest.mark.parametrize("line", PROMISED)
def test_the_lines_of_the_documents(tmp_path: Path, line: str) -> None:
    with pytest.raises(JobError, match="the test data") as raised:
        train_here(task(splits_with(PROMISED[line], "test")), tmp_path, **JOB)
    assert line in str(raised.value)


def test_the_documents_promise_no_other_lines() -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "data.md").read_text(encoding="utf-8")
    table = text.partition("| in the data |")[2].partition("\n\n")[0]
    cells = [row.strip(" |").split("|")[-1].strip() for row in table.splitlines()[2:]]
    lines = {cell.strip("`") for cell in cells if cell.startswith("`")}
    others = {"compares each output with every target", "all need one form"}  # tested below
    assert lines <= {*PROMISED, *others}
    assert others < lines


RIGHT: dict[str, Any] = {
    "pairs in a list": list(zip(x, y, strict=True)),
    "lists of two": [[a, b] for a, b in zip(x, y, strict=True)],
    "numbers": [(a.numpy(), int(b)) for a, b in zip(x, y, strict=True)],
    "a subset": Subset(samples(100, 1), range(64)),
}


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("kind", RIGHT)
def test_right_data_of_many_kinds(tmp_path: Path, kind: str, part: str) -> None:
    run = train_here(task(splits_with(RIGHT[kind], part)), tmp_path, **JOB)
    assert run.summary["finished"]


@pytest.mark.parametrize("method", ["bp", "shallow"])
def test_other_methods_refuse_too(tmp_path: Path, method: str) -> None:
    with pytest.raises(JobError, match="the test data"):
        train_here(task(splits_with(samples(64, 1, 12), "test")), tmp_path, method=method, **JOB)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"top": lambda o, t: o.topk(9)}, "the test data: the metric 'top' fails on outputs of"),
        ({"all": lambda o, t: o.argmax(1) == t}, "the metric 'all' returned a tensor of"),
        ({"none": lambda o, t: None}, "the metric 'none' returned NoneType"),
        ({"gone": partial(lambda o, t: {}["x"])}, "the metric 'gone' fails .* KeyError: 'x'"),
    ],
)
def test_a_metric_that_fails_is_named(
    tmp_path: Path, metrics: dict[str, Any], message: str
) -> None:
    with pytest.raises(JobError, match=message):
        train_here(task(splits_with(samples(64, 1), "test"), metrics=metrics), tmp_path, **JOB)


def test_a_metric_of_all_outputs_gets_as_many_as_there_will_be(tmp_path: Path) -> None:
    seen = []

    def of_views(output: Tensor, target: Tensor) -> float:
        seen.append((len(output), target.sum()))
        return float(output.view(8, 8, CLASSES).mean())

    data = splits_with(samples(64, 1), "test")
    train_here(task(data, global_metrics={"views": of_views}), tmp_path / "right", **JOB)
    assert seen[0] == seen[-1] == (64, y.sum())
    with pytest.raises(JobError, match="the test data: the metric 'views' fails"):
        data = splits_with(samples(65, 1), "test")
        train_here(task(data, global_metrics={"views": of_views}), tmp_path / "wrong", **JOB)


def test_a_loss_that_gives_no_number_is_refused(tmp_path: Path) -> None:
    each = partial(nn.functional.cross_entropy, reduction="none")
    data = splits_with(samples(64, 1), "test")
    with pytest.raises(JobError, match=r"the training data: the loss returned a tensor of \(8,\)"):
        train_here(Task(task(data).model, each, data), tmp_path, **JOB)


@pytest.mark.parametrize("data", [(1, 2), None])
def test_data_that_is_no_splits_is_refused(tmp_path: Path, data: Any) -> None:
    with pytest.raises(JobError, match="the data of task 'task' is a .*Splits"):
        train_here(task(lambda: data), tmp_path, **JOB)  # type: ignore[arg-type]


def test_data_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    def data() -> Splits:
        raise FileNotFoundError("x.csv")

    with pytest.raises(JobError, match="the data of task 'task' failed: FileNotFoundError: x.csv"):
        train_here(task(data), tmp_path, **JOB)  # type: ignore[arg-type]


class Batches:
    """A batch source that gives another form from one step on."""

    steps_per_epoch = 10

    def __init__(self, at: int, change: Callable[[Tensor, Tensor], Any]) -> None:
        self.at, self.change = at, change

    def batch(self, step: int) -> Any:
        batch = samples(32, step).tensors
        return batch if step < self.at else self.change(*batch)


SPOILT: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "wider": (lambda x, y: (torch.cat([x, x], 1), y), r"\(20,\) float32.*\(10,\) float32"),
    "float64": (lambda x, y: (x.double(), y), "float64"),
    "labels": (lambda x, y: (x, y.unsqueeze(1)), r"targets of \(1,\) int64"),
    "three": (lambda x, y: (x, y, y), "is a tuple of Tensor, Tensor, Tensor; .* two tensors"),
    "arrays": (lambda x, y: (x.numpy(), y), "is a tuple of ndarray, Tensor"),
    "nothing": (lambda x, y: None, "is a NoneType"),
    "scalar": (lambda x, y: (x, y.sum()), "first dimension"),
    "fewer": (lambda x, y: (x[:5], y[:5]), "has 5 inputs and 5 targets, batch_size is 32"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_batch_of_another_form_is_named_by_its_step(tmp_path: Path, kind: str) -> None:
    change, message = SPOILT[kind]
    data = splits_with(Batches(0, change), "train")
    if kind not in ("wider", "float64", "labels"):  # the model says what is wrong with these
        with pytest.raises(JobError, match=rf"the training data of step 0 .*{message}"):
            train_here(task(data), tmp_path / "first", **JOB)
    data = splits_with(Batches(7, change), "train")
    with pytest.raises(JobError, match=rf"the training data of step 7 .*{message}"):
        train_here(task(data), tmp_path / "later", **JOB)


BINARY: dict[str, Any] = {
    "column": lambda t: t.unsqueeze(1).float(),
    "flat": lambda t: t.float(),
}


def binary(loss: Any, target: str, head: nn.Module, **more: Any) -> Task:
    x = torch.randn(400, 10, generator=torch.Generator().manual_seed(0))
    label = BINARY[target]((x[:, 0] + x[:, 1] > 0.3).long())
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1), head)
    data = Splits(TensorDataset(x[:320], label[:320]), TensorDataset(x[320:], label[320:]))
    return Task(net, loss, data, **more)


def squeezed(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(output.squeeze(1), target)


LOGITS = nn.functional.binary_cross_entropy_with_logits


def test_one_logit_a_sample_has_the_right_accuracy(tmp_path: Path) -> None:
    job = {**JOB, "epochs": 12, "optimizer": {"lr": 0.02}}
    for n, loss in enumerate((LOGITS, nn.BCEWithLogitsLoss(), partial(LOGITS, reduction="mean"))):
        run = train_here(binary(loss, "column", nn.Identity()), tmp_path / f"{n}", **job)
        x, label = run.job.task.data.test.tensors  # type: ignore[union-attr]
        right = ((run.model(x) > 0) == (label > 0)).float().mean()
        assert run.metrics["accuracy"] == pytest.approx(float(right))
        assert run.metrics["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (binary(LOGITS, "flat", nn.Identity()), "the training data: .*the loss fail"),
        (
            binary(nn.functional.mse_loss, "flat", nn.Identity(), metrics={}),
            "the training data: the loss compares each output with every target",
        ),
        (
            binary(nn.functional.mse_loss, "column", nn.Flatten(0), metrics={}),
            "the training data: the loss compares each output with every target",
        ),
        (
            binary(lambda o, t: (o - t).abs().mean(), "flat", nn.Identity(), metrics={}),
            "the training data: the loss compares each output with every target",
        ),
        (
            binary(squeezed, "flat", nn.Identity()),
            "the test data: the default metric, accuracy, .*binary_accuracy",
        ),
        (
            binary(nn.functional.mse_loss, "column", nn.Identity()),
            "the test data: the default metric, accuracy, needs",
        ),
        (
            binary(nn.functional.binary_cross_entropy, "column", nn.Sigmoid()),
            "the test data: the default metric, accuracy, needs",
        ),
        (
            binary(
                squeezed,
                "flat",
                nn.Identity(),
                metrics={"share": lambda o, t: ((o > 0) == t).float().mean()},
            ),
            "the test data: the metric 'share' compares each output with every target",
        ),
    ],
)  # fmt: skip
def test_what_would_be_broadcast_is_refused(tmp_path: Path, given: Task, message: str) -> None:
    with pytest.raises(JobError, match=message):
        train_here(given, tmp_path, **JOB)


def test_accuracy_needs_a_class_for_each_sample() -> None:
    output, target = torch.randn(4, 7, 5), torch.randint(0, 5, (4, 7))
    assert accuracy(output, target) == (output.argmax(-1) == target).float().mean()
    for wrong in (target[:, :1], target.flatten(), torch.randn(4, 7, 5)):
        with pytest.raises(JobError, match="needs an output for each class"):
            accuracy(output, wrong)
