"""Watches how a loss uses the target: what it divides its sum by, as far as that can be seen."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_CROSS_ENTROPIES = (functional.cross_entropy, functional.nll_loss)
# functions of torch.nn.functional that average over all elements, as far as they average
_MEANS = {
    *("cross_entropy", "nll_loss"),  # other calls than those below
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "soft_margin_loss"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "poisson_nll_loss"),
    *("gaussian_nll_loss", "multi_margin_loss", "multilabel_margin_loss"),
    *("multilabel_soft_margin_loss", "hinge_embedding_loss"),
}
# what computes each element from the elements of the same sample
_ELEMENTWISE = {
    *("add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "div", "truediv"),
    *("rtruediv", "itruediv", "true_divide", "divide", "multiply", "subtract", "pow", "rpow"),
    *("eq", "ne", "lt", "le", "gt", "ge", "where", "maximum", "minimum", "clamp", "masked_fill"),
    *("xlogy", "logaddexp", "gather", "take_along_dim", "cosine_similarity", "logical_and"),
}
# what changes its first tensor, besides functions whose names end with an underscore
_IN_PLACE = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__"}
# what turns values into other things; a truth value only decides which way to go
_NUMBERS = {
    *("nonzero", "argwhere", "unique", "masked_select"),  # tensors whose size the values decide
    *("item", "tolist", "numpy", "__array__", "__float__", "__int__", "__index__"),
}


@dataclass(frozen=True)
class CrossEntropy:
    """A call that averages over the samples whose class is not ignored, by the classes' weights.

    target: classes, as the call got them.
    """

    target: Tensor
    ignore_index: int
    class_weight: Tensor | None


def cross_entropy(
    function: Any, arguments: Sequence[Any], keywords: dict[str, Any]
) -> CrossEntropy | None:
    """Return what a call of torch averages over, or None where it is another call."""
    if function not in _CROSS_ENTROPIES:
        return None
    bound = inspect.signature(function).bind(*arguments, **keywords)
    bound.apply_defaults()
    given = bound.arguments
    old = given["size_average"], given["reduce"]
    averages = (
        False not in old if any(one is not None for one in old) else given["reduction"] == "mean"
    )
    if not averages or given["target"].is_floating_point():
        return None
    return CrossEntropy(given["target"], given["ignore_index"], given["weight"])


class TargetUse(TorchFunctionMode):
    """Follows output and target through a loss.

    means: the calls of cross entropy, which say themselves what they divide by.
    uneven: whether the target may also decide in another way how many elements the mean is over,
        such as by a mask. If not, each sample counts the same.
    """

    def __init__(self, output: Tensor, target: Tensor) -> None:
        super().__init__()
        self.means: list[CrossEntropy] = []
        self.uneven = False
        self._seen: dict[int, Tensor] = {}  # keeps them alive, so that no id is used again
        self._of_output: set[int] = set()
        self._of_target: set[int] = set()
        self._note([output], self._of_output)
        self._note([target], self._of_target)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of torch, and note what it makes of output and target."""
        keywords: dict[str, Any] = kwargs or {}
        result = func(*args, **keywords)
        name = getattr(func, "__name__", "")
        taken = list(_tensors((args, keywords)))
        outputs = [t for t in taken if id(t) in self._of_output]
        targets = [t for t in taken if id(t) in self._of_target and id(t) not in self._of_output]
        mean = cross_entropy(func, args, keywords)
        if outputs and targets:
            if mean is not None and all(mean.class_weight is not t for t in targets):
                self.means.append(mean)
            elif not _even(name.strip("_"), outputs, targets):
                self.uneven = True
        elif targets and name in _NUMBERS:
            self.uneven = True
        made = list(_tensors(result))
        in_place = name in _IN_PLACE or re.fullmatch(r".*[^_]_", name)
        if in_place and args and isinstance(args[0], Tensor):
            made.append(args[0])
        if outputs or targets:
            self._note(made, self._of_output if outputs else self._of_target)
        return result

    def _note(self, tensors: Sequence[Tensor], kind: set[int]) -> None:
        self._seen.update((id(tensor), tensor) for tensor in tensors)
        kind.update(map(id, tensors))


def _even(name: str, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> bool:
    """Return whether a call lets every sample count the same, whatever the target."""
    if name in _MEANS:
        return len(targets) == 1  # a second one would be weights
    rows = {t.shape[:1] for t in (*outputs, *targets)}
    return name in _ELEMENTWISE and len(rows) == 1 and len(rows.pop()) == 1


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def target_use(
    loss: Callable[[Tensor, Tensor], Tensor], output: Tensor, target: Tensor
) -> TargetUse:
    """Run the loss once, and return how it uses the target."""
    use = TargetUse(output, target)
    with use:
        loss(output, target)
    return use
