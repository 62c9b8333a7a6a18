"""Any torch optimizer by name, and learning-rate schedules that are functions of the step."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import cos, pi, sqrt
from typing import Any, Literal

import torch
from torch import nn

from dfa_core.errors import JobError
from dfa_core.names import nearest

Schedule = Literal["constant", "cosine", "linear", "inverse_sqrt", "exponential", "plateau"]

# LBFGS calls the model again and again, which no pipeline can answer; SparseAdam wants gradients
# that no dense layer makes; Adafactor and Muon keep their place, for their state is a tensor's own.
_UNUSABLE = {"Optimizer", "LBFGS", "SparseAdam"}


@dataclass(frozen=True)
class OptimizerSpec:
    """What every layer's own optimizer is, and its learning rate at each step.

    name: a class of torch.optim, in any case ("adam", "SGD").
    lr: the learning rate, before the schedule.
    options: the class's other arguments, e.g. {"momentum": 0.9}.
    layer_options: such arguments of single layers ("0", "1"...) and of the "head", over `options`.
    clip_norm: largest gradient norm of one layer; 0 does not clip. By layer and not by block, so
        that any partition gives the same numbers.
    schedule: constant, or falling to zero at `total_steps` along a line or half a cosine, or with
        the square root of the steps since the warm-up (Noam: Vaswani 2017, eq. 3), or
        exponentially, to a tenth at `total_steps`, or by `cuts` alone (plateau).
    warmup_steps: the rate first rises along a line for this many steps.
    cuts: each multiplies the rate by `cut_factor` from that step on: a run that was rolled back, or
        whose loss did not fall.
    """

    name: str = "SGD"
    lr: float = 0.1
    options: Mapping[str, Any] = field(default_factory=dict)
    layer_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    clip_norm: float = 0.0
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    total_steps: int = 0
    cuts: tuple[int, ...] = ()
    cut_factor: float = 0.5

    def for_module(self, key: str) -> "OptimizerSpec":
        """Return the spec of one layer ("0", "1"...) or of the "head"."""
        return replace(self, options={**self.options, **self.layer_options.get(key, {})})

    def rate(self, step: int) -> float:
        """Return the learning rate of `step` (the first is 0)."""
        lr = self.lr * self.cut_factor ** sum(step >= cut for cut in self.cuts)
        if step < self.warmup_steps:
            return lr * (step + 1) / self.warmup_steps
        if self.schedule in ("constant", "plateau"):
            return lr
        if self.schedule == "inverse_sqrt":
            return lr * sqrt(max(1, self.warmup_steps) / (step + 1))
        span = max(1, self.total_steps - self.warmup_steps)
        done = min(1.0, (step - self.warmup_steps) / span)
        if self.schedule == "exponential":
            return float(lr * 0.1**done)
        return lr * (1 - done if self.schedule == "linear" else (1 + cos(pi * done)) / 2)


def optimizer_classes() -> dict[str, type[torch.optim.Optimizer]]:
    """Return the optimizers that can be named, by their class names."""
    return {
        name: cls
        for name, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and name not in _UNUSABLE
    }


def build_optimizer(
    spec: OptimizerSpec, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer | None:
    """Build the optimizer of one layer, or None where the layer has nothing to train.

    One kernel goes over all weights once where torch has such a one (`fused`), unless the options
    say otherwise: on a CPU a step of Adam then takes a quarter of the time.

    Raises JobError for an unknown name or option, and for a value the optimizer refuses.
    """
    trained = [p for p in parameters if p.requires_grad]
    classes = optimizer_classes()
    found: list[Any] = [cls for name, cls in classes.items() if name.lower() == spec.name.lower()]
    cls = found[0] if found else None
    if cls is None:
        raise JobError(f"optimizer.name: unknown '{spec.name}'; {nearest(spec.name, classes)}")
    known = [n for n in inspect.signature(cls).parameters if n not in ("params", "lr")]
    for option in spec.options:
        if option not in known:
            raise JobError(
                f"optimizer.options: {cls.__name__} has no '{option}'; {nearest(option, known)}"
            )
    if not trained:
        return None
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.options.items()}
    if "fused" in known and "foreach" not in options:
        # such a kernel takes memory as it lies, and would pair weights and gradients wrongly where
        # they lie differently (torch 2.13); autograd lays them alike where weights are contiguous
        options.setdefault("fused", all(p.is_contiguous() for p in trained))
    try:
        made: torch.optim.Optimizer = _not_to_compile(cls)(trained, lr=spec.lr, **options)
        return made
    except (TypeError, ValueError, RuntimeError) as error:
        raise JobError(f"optimizer: {cls.__name__} refuses its settings: {error}") from error


def state_per_weight(spec: OptimizerSpec) -> float:
    """Return how many numbers the optimizer keeps for each weight, once it has taken a step."""
    weights = nn.Parameter(torch.zeros(64, 64))
    optimizer = build_optimizer(spec, [weights])
    weights.grad = torch.zeros_like(weights)
    if optimizer is None:
        return 0.0
    optimizer.step()
    kept = [t for t in optimizer.state[weights].values() if isinstance(t, torch.Tensor)]
    return sum(tensor.numel() for tensor in kept) / weights.numel()


@cache
def _not_to_compile(cls: Any) -> Any:
    """Return the class without its wrappers for torch.compile, which import all of the compiler.

    That takes 2 s of each process, also of one that takes a dead one's place.
    """
    wrapped = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(cls, name)) for name in wrapped}
    methods["step"] = torch.no_grad()(inspect.unwrap(cls.step))
    return type(cls.__name__, (cls,), methods)
