"""Colours against published values and in another colour space."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scanpy.plotting import palettes

from scquery_ae.pl._palette import MISSING, OKABE_ITO, palette, seen


def least_difference(colours, sight=None):
    """CIE76 difference of the two most alike colours, in CIELAB (D65), not in OKLab as the package does."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if sight is not None:
        linear = np.clip(linear @ np.array(sight).T, 0, 1)
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    ratio = xyz / [0.9505, 1.0, 1.089]
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))


# Vienot, Brettel and Mollon (1999), not the matrices of the package.
DEUTERANOPIA = [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]


def test_oklab_of_known_colours():
    colours = seen(np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]], dtype=float))[0]
    # CSS Color Module Level 4 gives these for white, black, red and blue.
    expected = [[1, 0, 0], [0, 0, 0], [0.62796, 0.22486, 0.12585], [0.45201, -0.03246, -0.31153]]
    np.testing.assert_allclose(colours, expected, atol=2e-4)


def test_colour_blind_vision_changes_red_and_not_grey():
    full, protan, deutan = seen(np.array([[0.5, 0.5, 0.5], [1, 0, 0]]))
    np.testing.assert_allclose(protan[0], full[0], atol=1e-4)
    np.testing.assert_allclose(deutan[0], full[0], atol=1e-4)
    # Red is dark with protanopia.
    assert protan[1, 0] < full[1, 0] - 0.1


def test_the_first_eight_colours_are_okabe_and_itos():
    assert OKABE_ITO[:3] == ("#0072b2", "#e69f00", "#009e73")
    for n in range(9):
        assert palette(n) == OKABE_ITO[:n]


def test_a_longer_palette_starts_with_the_shorter_one():
    assert palette(60)[:40] == palette(40)
    assert palette(40)[:8] == OKABE_ITO
    assert len(set(palette(256))) == 256


@pytest.mark.parametrize("n", [12, 20, 28, 40])
def test_colours_are_more_distinct_with_deuteranopia_than_scanpys(n):
    theirs = palettes.default_20 if n <= 20 else palettes.default_28 if n <= 28 else palettes.default_102
    assert least_difference(palette(n), DEUTERANOPIA) > 1.5 * least_difference(theirs[:n], DEUTERANOPIA)


def test_forty_colours_are_distinct_with_normal_vision():
    # A difference of 2.3 is just noticeable side by side.
    assert least_difference(palette(40)) > 12


def test_no_colour_resembles_missing_values_or_white():
    for colour in palette(100):
        assert least_difference([colour, MISSING]) > 20
        assert least_difference([colour, MISSING], DEUTERANOPIA) > 7
        assert least_difference([colour, "white"]) > 20
