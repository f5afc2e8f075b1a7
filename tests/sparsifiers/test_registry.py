"""What all registered sparsifiers have: distinct names, abbreviations and colors, and a source."""

import itertools
import re

import numpy as np
import pytest

from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers

KINDS = [each for each in sparsifiers().values() if each is not Dense]
# Linear RGB as people with dichromatic vision see it (Machado et al., "A Physiologically-based
# Model for Simulation of Color Vision Deficiency", 2009, severity 1).
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
# Linear RGB to XYZ, relative to the white of sRGB.
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])


def lab(color: str, vision: str) -> np.ndarray:
    """A color "#RRGGBB" in CIELAB, in which about 2 is just noticeable."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(np.asarray(VISION[vision]) @ linear, 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_names_labels_and_abbreviations_are_distinct():
    for attribute in ("name", "label", "short", "color"):
        values = [getattr(each, attribute).lower() for each in sparsifiers().values()]
        assert len(set(values)) == len(values), attribute


@pytest.mark.parametrize(
    "vision, least", [("normal", 25), ("protanopia", 14), ("deuteranopia", 14)]
)
def test_colors_can_be_told_apart(vision, least):
    """Also by the color-blind, as far as twenty colors allow; all have contrast on white."""
    colors = {each.name: lab(each.color, vision) for each in sparsifiers().values()}
    for (one, a), (other, b) in itertools.combinations(colors.items(), 2):
        assert np.linalg.norm(a - b) >= least, f"{one} and {other}"
    assert max(color[0] for color in colors.values()) < 88


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_source_names_authors_and_year(kind):
    assert re.match(r"\S.* (19|20)\d\d, \S", kind.source)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_first_paragraph_is_one_sentence_for_the_help(kind):
    summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    assert 10 < len(summary) <= 120 and summary.endswith((".", ")."))
