"""A loss or a metric as a function that returns a number, or says what is wrong."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dfa_core.activations import described
from dfa_core.balance.trial import number
from dfa_core.errors import JobError, reason
from dfa_core.input_guard import InputGuard
from dfa_core.seeding import drawing_from

Measure = Callable[[Tensor, Tensor], float]
Metrics = Mapping[str, Callable[[Tensor, Tensor], object]]  # of a task, by name


def number_of(name: str, measure: Callable[[Tensor, Tensor], object], seed: int) -> Measure:
    """Return a measure that gives a number, and leaves outputs and targets to the next one.

    seed: of what it draws from global generators, in each call the same.
    """
    guard = InputGuard(named(name))

    def of(output: Tensor, target: Tensor) -> float:
        with drawing_from(seed), guard.given((output, target)) as own:
            return measured(name, measure, *own)

    return of


def measured(
    name: str, measure: Callable[[Tensor, Tensor], object], output: Tensor, target: Tensor
) -> float:
    """Return what a loss or metric gives. Raises JobError when it fails or gives no number."""
    what = named(name)
    try:
        value: Any = measure(output, target)
    except JobError:
        raise
    except Exception as error:
        raise JobError(
            f"{what} fails on outputs of {described([output])} and targets of "
            f"{described([target])}: {reason(error)}"
        ) from error
    return number(value, what)


def named(name: str) -> str:
    """Return what messages call a loss or metric."""
    return "the loss" if name == "loss" else f"the metric '{name}'"
