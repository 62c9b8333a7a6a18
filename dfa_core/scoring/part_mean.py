"""The mean of a loss or a metric over a data set, from reports of its parts."""

from dfa_core.scoring.part_report import PartReport


class PartMean:
    """One number of an evaluation: the mean of what a measure gives for the parts.

    A part weighs as many samples as it has, and for the loss what the loss says. A metric that
    masks or weighs samples by their targets has the weights of the loss, where these fit.
    Otherwise it is no mean over parts, and must be computed for all of them at once.

    Whether it is a mean shows in the first part whose halves give different numbers.
    """

    def __init__(self, is_loss: bool = False) -> None:
        self._by_weight: bool | None = True if is_loss else None  # None: no part was seen yet
        self._fits: bool | None = True if is_loss else None  # None: not shown yet
        self._parts: list[PartReport] = []

    def add(self, part: PartReport) -> None:
        """Take in the next part."""
        self._parts.append(part)
        if self._by_weight is None:
            self._by_weight = bool(part.masks)
        if self._fits is None:
            self._fits = part.fits_weight if self._by_weight else part.fits_samples

    @property
    def needs_all(self) -> bool:
        """Return whether it needs all outputs at once: it is no mean, or nothing shows that it is.

        One part is all, and parts that give one number have it as their mean.
        """
        values = {part.value for part, weight in self._weighed if weight}
        unknown = self._fits is None and len(values) > 1
        return len(self._parts) > 1 and (self._fits is False or unknown)

    def value(self) -> float:
        """Return the mean over all parts."""
        if len(self._parts) == 1:
            return self._parts[0].value
        total = sum(weight for _, weight in self._weighed)
        if not total:  # what the measure says of nothing
            return self._parts[0].value
        return sum(part.value * weight for part, weight in self._weighed if weight) / total

    @property
    def _weighed(self) -> list[tuple[PartReport, float]]:
        by_weight = self._by_weight
        return [(part, part.weight if by_weight else part.samples) for part in self._parts]
