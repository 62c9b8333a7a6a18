"""Categorical fields, the inputs of recommenders."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class Vocabulary:
    """The known categories of each field.

    Ids are numbered across all fields, so that one embedding table serves them. The first id of
    each field represents all unknown categories.
    """

    known: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, known: Mapping[str, Iterable[str]]) -> "Vocabulary":
        """Make a vocabulary of the categories of each field, in sorted order."""
        return cls({field: tuple(sorted(set(found))) for field, found in known.items()})

    @property
    def fields(self) -> int:
        """Return the number of fields."""
        return len(self.known)

    @property
    def ids(self) -> int:
        """Return the number of ids, of all fields together."""
        return sum(1 + len(categories) for categories in self.known.values())

    @cached_property
    def _numbers(self) -> list[dict[str, int]]:
        sizes = [1 + len(categories) for categories in self.known.values()]
        starts = accumulate(sizes, initial=0)
        return [
            {category: number for number, category in enumerate(categories, start=start + 1)}
            | {"": start}
            for start, categories in zip(starts, self.known.values(), strict=False)
        ]

    def encode(self, row: Sequence[str]) -> list[int]:
        """Return the id of each field's category."""
        pairs = zip(self._numbers, row, strict=True)
        return [numbers.get(category, numbers[""]) for numbers, category in pairs]
