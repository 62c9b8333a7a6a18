"""Any torch optimizer by name, and learning-rate schedules that are functions of the step."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import cos, pi, sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfa_core.errors import JobError
from dfa_core.muon import MuonAndAdamW
from dfa_core.names import nearest

Schedule = Literal["constant", "cosine", "linear", "inverse_sqrt", "exponential", "plateau"]

# LBFGS evaluates the model several times in a step, which a pipeline cannot do. SparseAdam needs
# sparse gradients, which dense layers do not produce.
_UNUSABLE = {"Optimizer", "LBFGS", "SparseAdam"}


@dataclass(frozen=True)
class OptimizerSpec:
    """The optimizer that each layer and the head have a copy of, and its learning rate.

    name: name of a class of torch.optim, in upper or lower case ("adam", "SGD"); "Muon" is
        MuonAndAdamW (muon.py).
    lr: learning rate before the schedule.
    options: the other arguments of the class, such as {"momentum": 0.9}.
    layer_options: arguments for single layers ("0", "1"...) or the "head"; they override `options`.
    clip_norm: the largest L2 norm of one layer's gradient; 0 does not clip. It applies to layers
        and not to blocks, so that every partition gives the same numbers.
    schedule: how the rate changes after the warm-up:
        constant: it does not.
        linear, cosine: it falls to zero at `total_steps`, along a line or half a cosine.
        inverse_sqrt: it falls with the square root of the step (Noam: Vaswani 2017, eq. 3).
        exponential: it falls exponentially, to a tenth at `total_steps`.
        plateau: only `cuts` change it.
    warmup_steps: number of steps over which the rate first rises linearly.
    total_steps: the step at which a schedule ends.
    cuts: from each of these steps on, the rate is multiplied by `cut_factor` (after a rollback, or
        when the loss did not fall).
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
        of_head = {"matrices": False} if (self.name.lower(), key) == ("muon", "head") else {}
        own = self.layer_options.get(key, {})
        return replace(self, options={**of_head, **self.options, **own})

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
    """Return the optimizers of torch that a job can use, by class name."""
    found = {
        name: cls
        for name, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and name not in _UNUSABLE
    }
    return {**found, "Muon": MuonAndAdamW}


def build_optimizer(
    spec: OptimizerSpec,
    parameters: Iterable[nn.Parameter],
    sparse: bool = False,
    embeddings: Iterable[Tensor] = (),
) -> torch.optim.Optimizer | None:
    """Build the optimizer of one layer, or None if the layer has nothing to train.

    sparse: some gradients are sparse, which no fused implementation takes. embeddings: those of the
        parameters that are tables of vectors, and no matrices that multiply.

    The fused implementation is used if torch has one, unless the options say otherwise: on a CPU
    a step of Adam then takes a quarter of the time.

    Raises JobError for an unknown name or option, and for a value that the optimizer refuses.
    """
    trained = [p for p in parameters if p.requires_grad]
    classes = optimizer_classes()
    by_lower: dict[str, Any] = {name.lower(): cls for name, cls in classes.items()}
    cls = by_lower.get(spec.name.lower())
    if cls is None:
        raise JobError(f"optimizer.name: unknown '{spec.name}'; {nearest(spec.name, classes)}")
    hidden = ("params", "lr", "others", "classes")
    known = [n for n in inspect.signature(cls).parameters if n not in hidden]
    for option in spec.options:
        if option not in known:
            raise JobError(
                f"optimizer.options: {cls.__name__} has no '{option}'; {nearest(option, known)}"
            )
    if not trained:
        return None
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.options.items()}
    if "fused" in known and "foreach" not in options:
        # a fused kernel ignores strides, and pairs weights with the wrong gradients if theirs
        # differ (torch 2.13); autograd gives gradients the strides of contiguous weights
        fits = all(p.is_contiguous() and p.is_floating_point() for p in trained)
        options.setdefault("fused", fits and not sparse)
    if cls is MuonAndAdamW:
        parts = tuple(map(_without_compiler, (torch.optim.Muon, torch.optim.AdamW)))
        options.update(others=list(embeddings), classes=parts)
    try:
        optimizer: torch.optim.Optimizer = _without_compiler(cls)(trained, lr=spec.lr, **options)
        return optimizer
    except (TypeError, ValueError, RuntimeError) as error:
        raise JobError(f"optimizer: {cls.__name__} refuses its settings: {error}") from error


def state_per_weight(spec: OptimizerSpec) -> float:
    """Return how many numbers the optimizer keeps for each weight after its first step."""
    weights = nn.Parameter(torch.zeros(64, 64))
    optimizer = build_optimizer(spec, [weights])
    weights.grad = torch.zeros_like(weights)
    if optimizer is None:
        return 0.0
    optimizer.step()
    state = [t for t in optimizer.state[weights].values() if isinstance(t, torch.Tensor)]
    return sum(tensor.numel() for tensor in state) / weights.numel()


@cache
def _without_compiler(cls: Any) -> Any:
    """Return the class without its wrappers for torch.compile, which import the compiler.

    That import takes 2 s in each process, including one that replaces a dead worker.
    """
    wrapped = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(cls, name)) for name in wrapped}
    methods["step"] = torch.no_grad()(inspect.unwrap(cls.step))
    return type(cls.__name__, (cls,), methods)
