"""Lines on standard error about a run that is looked at."""

from collections.abc import Iterable


def show_warnings(warnings: Iterable[str]) -> None:
    """Print each warning as a line of its own."""
    from coordinator.cli.terminal import Terminal

    log = Terminal(stderr=True)
    for warning in warnings:
        log.say(f"errorcast: {warning}")
