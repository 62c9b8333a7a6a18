"""Sides that are measured in turn: their command line, and the ratios of the rounds."""

import argparse
from collections.abc import Sequence
from statistics import quantiles


def rounds_parser(doc: str, rounds: int, steps: int) -> argparse.ArgumentParser:
    """Return a parser with --rounds and --steps, which have these defaults.

    doc: the benchmark's docstring; its first line is the description.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="how often all sides take turns")
    parser.add_argument("--steps", type=int, default=steps, help="steps of each side in a round")
    return parser


def quartiles(ratios: Sequence[float], form: str = ".2f") -> str:
    """Return the median of the rounds' ratios and their quartiles, to be shown."""
    low, middle, high = (format(ratio, form) for ratio in quantiles(ratios, n=4))
    return f"{middle} ({low} to {high})"
