"""Positions of names: boxes, then texts on axes."""

import itertools

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection

from scquery_ae.pl._names import move_apart, spread, write_names

FRAME = np.array([[0.0, 0.0], [100.0, 100.0]])


def overlapping(centres, sizes, tolerance=1e-3):
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(centres)), 2)
        if all(abs(centres[i][k] - centres[j][k]) < (sizes[i][k] + sizes[j][k]) / 2 - tolerance for k in (0, 1))
    ]


def test_boxes_that_do_not_overlap_stay():
    centres = np.array([[20.0, 20.0], [20.0, 31.0], [60.0, 20.0]])
    np.testing.assert_array_equal(spread(centres, np.full((3, 2), 10.0), FRAME), centres)


def test_two_boxes_each_move_by_half_of_the_smaller_overlap():
    # Ten wide and four high, one above the other by three: they overlap by one in height, and by ten in width.
    moved = spread(np.array([[50.0, 50.0], [50.0, 53.0]]), np.array([[10.0, 4.0], [10.0, 4.0]]), FRAME)
    np.testing.assert_array_equal(moved[:, 0], [50, 50])
    # Half of one each, and a twentieth of their height more.
    np.testing.assert_allclose(moved[:, 1], [50 - 0.7, 53 + 0.7])


def test_boxes_at_the_same_place_are_separated_in_their_order():
    moved = spread(np.full((3, 2), 50.0), np.tile([20.0, 5.0], (3, 1)), FRAME)
    assert overlapping(moved, np.tile([20.0, 5.0], (3, 1))) == []
    assert moved[0, 1] < moved[2, 1]


@pytest.mark.parametrize("seed", range(8))
def test_forty_crowded_boxes_fit_into_the_frame_reproducibly(seed):
    rng = np.random.default_rng(seed)
    centres = rng.normal(50, 12, (40, 2))
    sizes = np.stack([rng.uniform(5, 25, 40), np.full(40, 3.0)], axis=1)
    moved = spread(centres, sizes, FRAME)
    assert len(overlapping(centres, sizes)) > 20
    assert overlapping(moved, sizes) == []
    assert (moved - sizes / 2 >= -1e-9).all()
    assert (moved + sizes / 2 <= 100 + 1e-9).all()
    np.testing.assert_array_equal(spread(centres, sizes, FRAME), moved)


def test_boxes_leave_fixed_boxes_which_do_not_move():
    fixed = np.array([[[45.0, 48.0], [55.0, 52.0]], [[45.0, 60.0], [55.0, 62.0]]])
    sizes = np.array([[30.0, 6.0], [12.0, 6.0]])
    moved = spread(np.array([[50.0, 50.0], [70.0, 61.0]]), sizes, FRAME, fixed=fixed)
    centres = np.concatenate([moved, fixed.mean(axis=1)])
    assert overlapping(centres, np.concatenate([sizes, fixed[:, 1] - fixed[:, 0]])) == []
    # The second box is free.
    np.testing.assert_array_equal(moved[1], [70, 61])


def test_a_box_larger_than_the_frame_is_centred():
    moved = spread(np.array([[10.0, 10.0]]), np.array([[300.0, 4.0]]), FRAME)
    np.testing.assert_allclose(moved, [[50, 10]])


def test_names_do_not_overlap_and_lines_lead_to_the_anchors_of_moved_ones():
    _, ax = plt.subplots()
    ax.plot([0, 1], [0, 1])
    anchors = np.array([[0.5, 0.5]] * 6 + [[0.1, 0.1]])
    names = [f"a rather long name {i}" for i in range(6)] + ["alone"]
    limits = ax.axis()
    texts = write_names(ax, anchors, names)
    move_apart(ax, texts)
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert [text.get_text() for text in texts] == names
    np.testing.assert_allclose(texts[-1].get_position(), [0.1, 0.1])
    (leaders,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    segments = np.array(leaders.get_segments())
    # The two in the middle are still next to it.
    assert len(segments) == 4
    np.testing.assert_allclose(segments[:, 1], np.full((len(segments), 2), 0.5))
    assert ax.axis() == limits


def test_leaders_in_the_margin_of_the_axes_do_not_change_their_limits():
    _, ax = plt.subplots()
    ax.plot([0, 1], [0, 1])
    limits = ax.axis()
    texts = write_names(ax, np.ones((8, 2)), ["name"] * 8)
    move_apart(ax, texts)
    assert max(text.get_position()[1] for text in texts) > 1
    ax.figure.canvas.draw()
    ax.plot([0, 1], [0, 1])
    np.testing.assert_allclose(ax.axis(), limits)
