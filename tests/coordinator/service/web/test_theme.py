"""The colours of the page can be read by everybody: WCAG's contrasts, and no confused curves."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from skimage.color import rgb2lab

from coordinator.service.web import page

COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)",
        (Path(page.__file__).parent / "assets" / "theme.css").read_text(encoding="utf-8"),
    )
}
TEXT = [
    *((text, paper) for text in ("ink", "soft", "link") for paper in ("paper", "raised", "opened")),
    ("problem", "problem-paper"),
    ("problem", "paper"),
    ("problem", "opened"),
]
GRAPHICS = ("border", *(f"curve-{n}" for n in range(1, 5)))
GRAPHICS += ("forward", "update", "weights", "optimizer", "head")
# linear RGB as it is seen without one kind of cones (Machado, Oliveira and Fernandes 2009)
SIGHT = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no long": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no middle": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no short": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def seen(colour: str, sight: str) -> np.ndarray:
    """Return a colour's place in CIELAB, where a distance of 2 is just visible side by side."""
    light = np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(encoded))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrasts_are_those_of_wcag_aa(theme: int) -> None:
    poor = {
        pair: round(contrast(COLOURS[pair[0]][theme], COLOURS[pair[1]][theme]), 2) for pair in TEXT
    }
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}
    lines = {
        name: round(contrast(COLOURS[name][theme], COLOURS["paper"][theme]), 2) for name in GRAPHICS
    }
    assert {name: ratio for name, ratio in lines.items() if ratio < 3} == {}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_curves_differ_for_every_kind_of_colour_blindness(theme: int, sight: str) -> None:
    curves = [seen(COLOURS[f"curve-{n}"][theme], sight) for n in range(1, 5)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(curves, 2)) > 25
