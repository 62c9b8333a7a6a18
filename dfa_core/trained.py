"""A module with its own optimizer: what a layer and the head have in common."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dfa_core.errors import JobError
from dfa_core.optimizer import OptimizerSpec, build_optimizer

TensorState = dict[str, Tensor]
ScalarState = dict[str, Any]


class TrainedModule:
    """A module and its optimizer; its whole state is flat tensors and JSON scalars, no pickle."""

    def __init__(
        self, name: str, module: nn.Module, spec: OptimizerSpec, skip_non_finite: bool = False
    ) -> None:
        """skip_non_finite: leave out batches whose gradient is NaN or infinite."""
        self.name = name
        self._skipped: list[int] = []
        self.skip_non_finite = skip_non_finite
        self._bad: set[int] = set()
        self._buffers_before: dict[int, TensorState] = {}
        self.module = module.train()
        self.device = torch.device("cpu")
        self.spec = spec
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.parameters: dict[str, Tensor] = {**trained}
        self.optimizer = build_optimizer(spec, trained.values())

    def to(self, device: torch.device) -> None:
        """Move to a device, before the first step: what is computed here is computed there."""
        self.module.to(device)
        self.device = device

    def apply_gradients(self, step: int) -> None:
        """Take the optimizer step of `step` with the gradients summed so far, and clear them."""
        if self.skip_non_finite and not self._usable(step):
            self._skipped.append(step)
            self.clear_gradients()
            self._restore_buffers(step)
            return
        self._buffers_before.pop(step, None)
        if self.optimizer is None:
            return
        if self.spec.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.spec.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.rate(step)
        self.optimizer.step()
        self.clear_gradients()

    def leave_out(self, step: int) -> None:
        """Let the batch of `step` change nothing: its loss or its error is not finite."""
        self._bad.add(step)

    def take_skipped(self) -> list[int]:
        """Return the steps whose batch changed no weight here, since this was last asked."""
        steps, self._skipped = self._skipped, []
        return steps

    def set_cuts(self, cuts: tuple[int, ...]) -> None:
        """Cut the learning rate at these steps from now on."""
        self.spec = replace(self.spec, cuts=cuts)

    def go_back(self) -> None:
        """Drop what an unfinished step left here, before load_state()."""
        self._skipped.clear()
        self._bad.clear()
        self._buffers_before.clear()
        self.clear_gradients()

    def note_buffers(self, step: int) -> None:
        """Keep running statistics as they are before the batch of `step`, should it be left out."""
        if self.skip_non_finite and step not in self._buffers_before:
            self._buffers_before[step] = {n: b.clone() for n, b in self.module.named_buffers()}

    def _restore_buffers(self, step: int) -> None:
        before = self._buffers_before.pop(step, {})
        for later in self._buffers_before:  # delayed mode: they were noted with this batch in them
            self._buffers_before[later] = before
        for name, buffer in self.module.named_buffers():
            if name in before:
                # .data: graphs of later batches may hold it, and autograd would refuse their update
                buffer.data.copy_(before[name])

    def _usable(self, step: int) -> bool:
        if step in self._bad:
            self._bad.remove(step)
            return False
        gradients = (p.grad for p in self.parameters.values() if p.grad is not None)
        return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)

    def clear_gradients(self) -> None:
        """Drop the gradients summed so far."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def first_non_finite(self) -> str | None:
        """Return the name of the first weight or buffer that holds NaN or infinity."""
        for name, value in self.module.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                return str(name)
        return None

    def state(self) -> tuple[TensorState, ScalarState]:
        """Return copies of weights (`weights/...`) and optimizer state (`optimizer/...`)."""
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
        return tensors, scalars

    def load_state(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Take over a state made by `state`, bit for bit.

        Raises JobError when it belongs to a module of another shape.
        """
        weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k[0] == "w"}
        try:
            self.module.load_state_dict(weights)
        except RuntimeError as error:
            what = " ".join(str(error).split())
            raise JobError(
                f"{self.name}: the saved weights do not fit this model: {what}"
            ) from error
        if self.optimizer is None:
            return
        names = list(self.parameters)
        state: dict[int, dict[str, Any]] = {}
        # clone: tensors of a file are mapped at odd addresses, and alignment can change bits
        for key, value in (*((k, t.clone()) for k, t in tensors.items()), *scalars.items()):
            if key.startswith("optimizer/"):
                name, slot = key.removeprefix("optimizer/").rsplit("/", 1)
                state.setdefault(names.index(name), {})[slot] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
