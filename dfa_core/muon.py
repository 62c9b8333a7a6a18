"""Muon for the matrices of a module, AdamW for the rest.

Muon (Jordan et al. 2024) makes the momentum of a matrix orthogonal before it is applied. Vectors,
embeddings and the head's output matrix are trained by AdamW, as its authors advise. With
`adjust_lr_fn="match_rms_adamw"` (Liu et al. 2025, arXiv 2502.16982), the default here, a step has
the size of AdamW's, so that both share one learning rate.
"""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

# without its wrapper for torch.compile, which imports the compiler
_add_group: Any = inspect.unwrap(torch.optim.Optimizer.add_param_group)


class MuonAndAdamW(torch.optim.Optimizer):
    """Both as one optimizer, with a group for each parameter, in the order in which they come."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: Sequence[float] = (3.4445, -4.775, 2.0315),
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        matrices: bool = True,
        fused: bool = False,
        *,
        others: Iterable[Tensor] = (),
        classes: tuple[Any, Any] = (torch.optim.Muon, torch.optim.AdamW),
    ) -> None:
        """lr, weight_decay: of both. betas, eps, fused: AdamW's; the others are Muon's.

        matrices: whether Muon trains any. others: matrices that it does not train. classes: which
            optimizers these two are.

        Raises ValueError for a value that one of them refuses.
        """
        trained = list(params)
        self._others = {id(p) for p in (others if matrices else trained)}
        matrix = next((p for p in trained if p.ndim == 2), torch.nn.Parameter(torch.zeros(1, 1)))
        self._muon = classes[0](
            [matrix],
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_coefficients=tuple(ns_coefficients),
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
        )
        self._adamw = classes[1](
            trained, lr=lr, weight_decay=weight_decay, betas=tuple(betas), eps=eps, fused=fused
        )
        super().__init__([{"params": [p]} for p in trained], {})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, each to the optimizer that is to train it."""
        parameters = param_group["params"]
        for parameter in [parameters] if isinstance(parameters, Tensor) else parameters:
            by_muon = parameter.ndim == 2 and id(parameter) not in self._others
            defaults = (self._muon if by_muon else self._adamw).defaults
            _add_group(self, {**defaults, "params": [parameter], "by_muon": by_muon})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # it returns no loss
        """Let each take its step; closure: must be None, since nothing is evaluated again."""
        if closure is not None:
            raise ValueError("this optimizer takes no closure")
        for optimizer, by_muon in ((self._muon, True), (self._adamw, False)):
            optimizer.param_groups = [g for g in self.param_groups if g["by_muon"] == by_muon]
            optimizer.state = self.state
            if optimizer.param_groups:
                optimizer.step()
