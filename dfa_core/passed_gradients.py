"""The gradients that backpropagation passes from a layer to the one before it.

Every tensor of activations gets one, zeros where nothing depends on it: so it is the same whether
the two layers are in one process or in two.
"""

import torch

from dfa_core.activations import Activations, ActivationSpec, as_received, tensors


def gradient_spec(h: ActivationSpec) -> ActivationSpec | None:
    """Return the form of the gradients of activations; None for integers, which have none."""
    return ActivationSpec(h.tensors) if _has_gradient(h.tensors[0].dtype) else None


def leaves(h: Activations) -> Activations:
    """Return the same memory without its graph, ready to get gradients."""
    own = tuple(t.detach().requires_grad_(_has_gradient(t.dtype)) for t in tensors(h))
    return own if isinstance(h, tuple) else own[0]


def gradients_of(given: Activations) -> Activations | None:
    """Return the gradients of leaves(), after a backward pass, laid out as after a message."""
    if not tensors(given)[0].requires_grad:
        return None
    found = tuple(
        torch.zeros_like(t) if t.grad is None else as_received(t.grad) for t in tensors(given)
    )
    return found if isinstance(given, tuple) else found[0]


def all_nan(given: Activations) -> Activations | None:
    """Return gradients of leaves() that say: this batch changes nothing."""
    if not tensors(given)[0].requires_grad:
        return None
    found = tuple(torch.full_like(t, torch.nan, requires_grad=False) for t in tensors(given))
    return found if isinstance(given, tuple) else found[0]


def are_finite(gradients: Activations) -> bool:
    """Return whether no gradient is NaN or infinite."""
    return all(bool(torch.isfinite(t).all()) for t in tensors(gradients))


def _has_gradient(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex
