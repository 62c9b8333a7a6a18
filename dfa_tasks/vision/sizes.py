"""Checks the sizes that a user gives a network."""

from dfa_core import JobError


def check_sizes(**sizes: int) -> None:
    """Raise JobError for an option that is no whole number above 0."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise JobError(f"options.{name}: {size!r} is not a whole number above 0")
