"""Sides that are measured in turn: their command line, and the ratios of the rounds."""

import argparse
from collections.abc import Sequence
from statistics import quantiles


def rounds_parser(doc: str, rounds: int, steps: int) -> argparse.ArgumentParser:
    """Return a parser with --rounds and --steps, which have these defaults.

    doc: the benchmark's docstring; its first line is the description.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    add_rounds(parser, rounds, "how often all sides take turns")
    parser.add_argument(
        "--steps", type=_at_least_one, default=steps, help="steps of each side in a round"
    )
    return parser


def add_rounds(parser: argparse.ArgumentParser, rounds: int, what: str) -> None:
    """Give a parser --rounds. rounds: the default. what: the help."""
    parser.add_argument("--rounds", type=_at_least_one, default=rounds, help=what)


def quartiles_of(ratios: Sequence[float]) -> list[float]:
    """Return the quartiles of the rounds' ratios; of one round, its ratio three times."""
    return quantiles(ratios, n=4) if len(ratios) > 1 else [*ratios] * 3


def quartiles(ratios: Sequence[float], form: str = ".2f") -> str:
    """Return the median of the rounds' ratios and their quartiles, to be shown."""
    low, middle, high = (format(ratio, form) for ratio in quartiles_of(ratios))
    return f"{middle} ({low} to {high})"


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, at least 1")
    return int(text)
