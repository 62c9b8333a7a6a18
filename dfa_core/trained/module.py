"""A module and its optimizer: the part of training that no learning rule changes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dfa_core.activations import Activations
from dfa_core.compiling import compiled
from dfa_core.errors import JobError
from dfa_core.optimizer import build_optimizer
from dfa_core.rule import LearningRule
from dfa_core.seeding import derive, drawing_from, draws_of
from dfa_core.trained.gradient_vector import gather_gradients, scatter_gradients
from dfa_core.trained.open_weights import OpenWeights
from dfa_core.trained.skipped_batches import SkippedBatches
from dfa_core.trained.weight_average import WeightAverage

TensorState = dict[str, Tensor]
ScalarState = dict[str, Any]


class TrainedModule:
    """A module and its optimizer; its whole state is flat tensors and JSON scalars, no pickle.

    rule: how the module learns. It is the only copy here, and set_cuts() replaces it.
    parameters: what the optimizer trains, by name.
    draws: what its code may draw from.
    """

    def __init__(
        self, name: str, module: nn.Module, rule: LearningRule, key: str, delayed: bool
    ) -> None:
        """name: of the module's state; key: its key in `optimizer.layer_options`.

        delayed: its optimizer uses gradients that are rule.staleness steps old.

        Raises JobError if the optimizer does not exist or refuses its options.
        """
        self.name = name
        self.rule = rule
        _check_state(name, module)
        self.module = module  # in its submodules' own modes: a frozen batch norm only evaluates
        self.device = torch.device("cpu")
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.parameters: dict[str, Tensor] = {**trained}
        sparse = any(getattr(part, "sparse", False) is True for part in module.modules())
        tables = (nn.Embedding, nn.EmbeddingBag)
        embeddings = [part.weight for part in module.modules() if isinstance(part, tables)]
        spec = rule.optimizer.for_module(key)
        self.optimizer = build_optimizer(spec, trained.values(), sparse, embeddings)
        self._open, self._delayed = OpenWeights(self.parameters), delayed
        self._average = WeightAverage(trained, rule.ema) if rule.ema else None
        self._averaged: dict[str, float] = {}  # of tensors that no optimizer trains
        self._skipped = SkippedBatches(module)
        self._compiled: Callable[..., Activations] | None = None
        self.draws = draws_of(module)

    def check_delay(self, label: str) -> None:
        """Raise JobError for a module that cannot compute with copies of its weights.

        label: how messages name it.
        """
        if self._delayed and any(p._backward_hooks for p in self.parameters.values()):
            raise JobError(
                f"staleness: {label} has hooks on its weights, and delayed mode computes with "
                f"copies of them; set it to 0, or let the forward do what the hooks do"
            )

    def weights_of(self, step: int) -> dict[str, Tensor] | None:
        """Return the weights that all forwards of `step` use; None: the module's own."""
        return self._open.of(step) if self._delayed else None

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the module into evaluation mode, and each submodule back into its own afterwards.

        A module's own train(), which may set more than the mode, is called for both. Averaged
        weights, if the rule asks for them, are in place.
        """
        modes = [(module, module.training) for module in self.module.modules()]
        self.module.eval()
        try:
            with nullcontext() if self._average is None else self._average.in_place():
                yield
        finally:
            for module, training in modes:
                if type(module).train is not nn.Module.train:
                    module.train(training)
            for module, training in modes:
                module.training = training

    def to(self, device: torch.device) -> None:
        """Move to a device, before the first step; inputs must come from there."""
        self.module.to(device)
        self.device = device
        if self._average is not None:
            self._average.to(device)

    def training_call(self) -> Callable[..., Activations]:
        """Return what training calls with the module's inputs: the module, or its compiled code.

        Evaluations call the module: they see other shapes, for each of which code would be made.
        """
        if not self.rule.compiled:
            return self.module
        if self._compiled is None:
            self._compiled = compiled(self.module)
        return self._compiled

    def drawing_backward(self, step: int, microbatch: int) -> AbstractContextManager[None]:
        """Return a context in which a backward pass of this module alone draws its numbers.

        Code that is not known may draw there too: checkpointing, noise on gradients.
        """
        seed = derive(self.rule.seed, "backward", self.name, step, microbatch)
        return drawing_from(seed, self.draws.backward)

    def apply_gradients(self, step: int) -> None:
        """Take the optimizer step of `step` with the gradients summed so far, and clear them.

        If the rule skips non-finite batches, and this one was marked or its gradient is not
        finite, nothing changes.
        """
        self._open.close(step)
        if self.rule.skip_non_finite and not self._is_usable(step):
            self.clear_gradients()
            self._skipped.skip(step)
            return
        self._skipped.keep(step)
        if self.optimizer is None:
            return
        self._take_averages()
        spec = self.rule.optimizer
        if spec.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), spec.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = spec.rate(step)
        self.optimizer.step()
        self.clear_gradients()
        if self._average is not None:
            self._average.update(step)

    def _is_usable(self, step: int) -> bool:
        if self._skipped.is_marked(step):
            return False
        gradients = (p.grad for p in self.parameters.values() if p.grad is not None)
        return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)

    def mark_skipped(self, step: int) -> None:
        """Note that the batch of `step` must change nothing: its loss or error is not finite."""
        self._skipped.mark(step)

    def take_skipped(self) -> list[int]:
        """Return the steps whose batch was skipped here, since the last call."""
        return self._skipped.take()

    def save_buffers(self, step: int) -> None:
        """Save running statistics before a forward of `step`, in case its batch is skipped."""
        if self.rule.skip_non_finite:
            self._skipped.save_buffers(step)

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate at these steps from now on."""
        self.rule = self.rule.cut_at(cuts)

    def go_back(self) -> None:
        """Drop what an unfinished step left here, before load_state()."""
        self._skipped.clear()
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Drop the gradients summed so far."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def gradient_vector(self, step: int) -> Tensor:
        """Return the gradients of batch `step` as one vector, to be summed over replicas.

        If the batch must be skipped, all is NaN: the sum is then NaN on every replica, so that
        all of them skip it. The layout is gather_gradients()'s.
        """
        vector = gather_gradients(self.gradient_holders(step))
        return vector.fill_(torch.nan) if self._skipped.is_marked(step) else vector

    def take_gradient_vector(self, step: int, vector: Tensor) -> None:
        """Take a sum of such vectors, on any device, as the gradients of batch `step`."""
        scatter_gradients(vector, self.gradient_holders(step))

    def gradient_holders(self, step: int) -> list[Tensor]:
        """Return the tensors that the gradients of batch `step` are summed in."""
        return list((self.weights_of(step) or self.parameters).values())

    def running_statistics(self) -> list[Tensor]:
        """Return the saved buffers that training changes without a gradient (BatchNorm's)."""
        return [self.module.get_buffer(name) for name in self._statistics]

    @cached_property
    def _statistics(self) -> list[str]:
        saved, buffers = self.module.state_dict(keep_vars=True), self.module.named_buffers()
        return [name for name, b in buffers if name in saved and b.is_floating_point()]

    def train_also(self, name: str, parameter: Tensor, averaged: float | None = None) -> None:
        """Let the optimizer train another tensor from now on, if there is an optimizer.

        averaged: the tensor becomes a running average of its gradients instead, and this is the
            weight of the newest one.

        A name that is known already changes nothing.
        """
        if self.optimizer is None or name in self.parameters:
            return
        self.parameters[name] = parameter
        if averaged is None:
            self.optimizer.add_param_group({"params": [parameter]})
        else:
            self._averaged[name] = averaged

    def _take_averages(self) -> None:
        for name, weight in self._averaged.items():
            parameter = self.parameters[name]
            if parameter.grad is not None:
                parameter.data.lerp_(parameter.grad, weight)
                parameter.grad = None

    def drop_parameter(self, name: str) -> None:
        """Undo train_also(), and drop the optimizer's state of that tensor."""
        parameter = self.parameters.pop(name, None)
        self._averaged.pop(name, None)
        if parameter is not None and self.optimizer is not None:
            groups = self.optimizer.param_groups
            groups[:] = [group for group in groups if group["params"][0] is not parameter]
            self.optimizer.state.pop(parameter, None)

    def first_non_finite(self) -> str | None:
        """Return the name of the first weight or buffer that holds NaN or infinity, if any."""
        for name, value in self.module.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                return str(name)
        return None

    def state(self) -> tuple[TensorState, ScalarState]:
        """Return CPU copies of weights, their averages, optimizer state and open gradients.

        They are `weights/...`, `average/...`, `optimizer/...` and `open/...`.
        """
        tensors: TensorState = {
            f"weights/{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.module.state_dict().items()
        }
        scalars: ScalarState = {}
        if self.optimizer is not None:
            for name, parameter in self.parameters.items():
                for key, value in self.optimizer.state.get(parameter, {}).items():
                    if isinstance(value, Tensor):
                        tensors[f"optimizer/{name}/{key}"] = value.detach().cpu().clone()
                    else:
                        scalars[f"optimizer/{name}/{key}"] = value
        averages = {} if self._average is None else self._average.state()
        return {**tensors, **averages, **self._open.state()}, scalars

    def load_state(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Take over a state made by `state`, bit for bit.

        Raises JobError if the state belongs to a module of another shape.
        """
        weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k[0] == "w"}
        try:
            self.module.load_state_dict(weights)
        except RuntimeError as error:
            reason = _unlike(self.module.state_dict(), weights) or " ".join(str(error).split())
            raise JobError(
                f"{self.name}: the saved weights do not fit this model: {reason}; the task's model "
                f"or its options have changed since they were saved: train in another folder"
            ) from error
        if self.optimizer is not None:
            self._load_optimizer(self.optimizer, tensors, scalars)
        if self._average is not None:
            self._average.load_state(tensors)
        if self._delayed:
            self._open.load_state(tensors)

    def _load_optimizer(
        self, optimizer: Any, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]
    ) -> None:
        names = list(self.parameters)
        state: dict[int, dict[str, Any]] = {}
        # clone: tensors of a file are mapped at odd addresses, and alignment can change bits
        for key, value in (*((k, t.clone()) for k, t in tensors.items()), *scalars.items()):
            if key.startswith("optimizer/"):
                name, slot = key.removeprefix("optimizer/").rsplit("/", 1)
                state.setdefault(names.index(name), {})[slot] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _unlike(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> str:
    """Return the first difference of names or shapes; nothing if there is none."""
    for name in [name for name in (*saved, *own) if (name in saved) != (name in own)]:
        return f"only the {'saved state' if name in saved else 'model'} has {name}"
    for name in [name for name, of in saved.items() if of.shape != own[name].shape]:
        return f"{name} is {tuple(saved[name].shape)} there, and {tuple(own[name].shape)} here"
    return ""


def _check_state(name: str, module: nn.Module) -> None:
    """Raise JobError for a state that only pickle could save."""
    for key, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise JobError(
                f"{name}: its extra state '{key}' is a {type(value).__name__}, and a checkpoint "
                f"holds tensors alone; let get_extra_state() return a tensor"
            )
