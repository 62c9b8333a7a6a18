"""Lines on standard error about a run that is looked at."""

import sys
from collections.abc import Iterable


def show_warnings(warnings: Iterable[str]) -> None:
    """Print each warning as a line of its own."""
    for warning in warnings:
        print(f"errorcast: {warning}", file=sys.stderr)
