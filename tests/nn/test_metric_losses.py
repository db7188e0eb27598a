"""Losses over pairs and triplets of a batch: against plain loops, and worked by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from scquery_ae._array_checks import check_margin
from scquery_ae._errors import ArgumentError
from scquery_ae.nn import METRIC_LOSSES, ContrastiveLoss, TripletLoss, get_metric_loss
from scquery_ae.nn.metric_losses import distances

pytestmark = pytest.mark.backend

MATRIX = np.array([[0.3, 1.0, 0.2, 0.7], [0.9, 0.1, 1.6, 0.4], [0.5, 1.1, 0.8, 2.0], [0.6, 0.35, 1.2, 0.2]], "float32")


def embeddings(n, d=3, seed=0):
    latent = np.random.default_rng(seed).normal(size=(n, d))
    return (latent / np.linalg.norm(latent, axis=1, keepdims=True)).astype("float32")


def values(loss, types, latent):
    """Return the loss of each cell."""
    return np.asarray(keras.ops.convert_to_numpy(loss.call(keras.ops.convert_to_tensor(types), np.asarray(latent))))


def margin_of(margin, one, other):
    return float(margin) if np.ndim(margin) == 0 else float(margin[one][other])


def looped_contrastive(types, latent, margin):
    """Return the loss as the docstring defines it, pair by pair, in double precision."""
    result = []
    for i, own in enumerate(types):
        pull, push = [], []
        for j, other in enumerate(types):
            distance = np.linalg.norm(np.float64(latent[i]) - np.float64(latent[j]))
            if j != i and own == other:
                pull.append(distance**2)
            elif own != other:
                push.append(max(margin_of(margin, own, other) - distance, 0) ** 2)
        result.append(np.mean(pull or [0]) + np.mean(push or [0]))
    return np.array(result)


def looped_triplet(types, latent, margin):
    result = []
    for i, own in enumerate(types):
        farthest, shortfall = [], []
        for j, other in enumerate(types):
            distance = np.linalg.norm(np.float64(latent[i]) - np.float64(latent[j]))
            if j != i and own == other:
                farthest.append(distance)
            elif own != other:
                shortfall.append(margin_of(margin, own, other) - distance)
        result.append(max(max(farthest) + max(shortfall), 0) if farthest and shortfall else 0.0)
    return np.array(result)


CASES = [(ContrastiveLoss, looped_contrastive), (TripletLoss, looped_triplet)]


@pytest.mark.parametrize(("kind", "looped"), CASES)
@pytest.mark.parametrize("margin", [0.5, 1.2, 0.0, MATRIX])
@pytest.mark.parametrize("types", [[0, 1, 0, 1, 2, 2, 3, 3, 0], [0, 0, 1, 2, 3], [2, 1, 2]])
def test_against_loops(kind, looped, margin, types):
    types = np.array(types)
    for seed in range(3):
        latent = embeddings(len(types), seed=seed)
        expected = looped(types, latent, margin)
        np.testing.assert_allclose(values(kind(margin), types, latent), expected, atol=1e-5)
        np.testing.assert_allclose(float(kind(margin)(types, latent)), expected.mean(), atol=1e-5)


def test_a_margin_for_each_pair_is_read_by_row_and_column():
    """Two cells, types 2 and 0, far apart by 0.1: the shortfalls are those of entries [2, 0] and [0, 2]."""
    latent = np.array([[0.0, 0.0], [0.1, 0.0]], "float32")
    margin = np.zeros((3, 3), "float32")
    margin[2, 0], margin[0, 2] = 0.7, 0.3
    np.testing.assert_allclose(values(ContrastiveLoss(margin), [2, 0], latent), [0.6**2, 0.2**2], atol=1e-6)


def test_equal_margins_in_a_matrix_are_one_margin():
    types, latent = np.array([0, 1, 2, 0, 1, 2, 3, 3]), embeddings(8)
    for kind in (ContrastiveLoss, TripletLoss):
        np.testing.assert_allclose(
            values(kind(np.full((4, 4), 0.6)), types, latent), values(kind(0.6), types, latent), atol=1e-6
        )


# Worked by hand


#: On a line: type 0 at 0, 1 and 3, type 1 at 4 and 4.5.
LINE = np.array([[0.0], [1.0], [3.0], [4.0], [4.5]], "float32")
LINE_TYPES = np.array([0, 0, 0, 1, 1])


def test_batch_hard_on_a_line():
    # Farthest of the type (at): 3 (3), 2 (3), 3 (0), 0.5 (4.5), 0.5 (4).
    # Nearest cell of another type (at):     4 (4), 3 (4), 1 (4), 1 (3),     1.5 (3).
    # With margin 1.2: 3 - 4 + 1.2, 2 - 3 + 1.2, 3 - 1 + 1.2, 0.5 - 1 + 1.2, 0.5 - 1.5 + 1.2.
    np.testing.assert_allclose(values(TripletLoss(1.2), LINE_TYPES, LINE), [0.2, 0.2, 3.2, 0.7, 0.2], atol=1e-5)
    # A margin of 0.9 is kept by all but the third and the fourth.
    np.testing.assert_allclose(values(TripletLoss(0.9), LINE_TYPES, LINE), [0, 0, 2.9, 0.4, 0], atol=1e-5)


def test_contrastive_on_a_line():
    # Mean squares to the own type, and to the other the mean square of what lacks to the margin of 2:
    # at 0 (1 + 9) / 2; at 1 (1 + 4) / 2; at 3 (9 + 4) / 2 and (1 + 0.25) / 2; at 4 0.25 and 1 / 3; at 4.5 and 0.25 / 3.
    expected = [5, 2.5, 6.5 + 0.625, 0.25 + 1 / 3, 0.25 + 0.25 / 3]
    np.testing.assert_allclose(values(ContrastiveLoss(2.0), LINE_TYPES, LINE), expected, atol=1e-5)


def test_the_hardest_cell_is_not_always_the_nearest():
    """On a circle at 0, 60, 90 and 180 degrees; types 0, 0, 1, 2. The wide margin is to type 2, far away."""
    angles = np.deg2rad([0, 60, 90, 180])
    latent = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
    margin = np.array([[0, 0.5, 3.0], [0.5, 0, 0], [3.0, 0, 0]], "float32")
    # The first: its partner is 1 away; type 1 is sqrt(2) away and lacks 0.5 - 1.41 < 0, type 2 is 2 away and lacks 1.
    # The second: type 1 is 2 sin 15 = 0.518 away and lacks -0.018, type 2 is sqrt(3) away and lacks 1.268.
    expected = [1 + 3 - 2, 1 + 3 - np.sqrt(3), 0, 0]
    np.testing.assert_allclose(values(TripletLoss(margin), [0, 0, 1, 2], latent), expected, atol=1e-5)
    # With one margin for all it is the nearest.
    expected = [1 + 0.5 - np.sqrt(2), 1 + 0.5 - 2 * np.sin(np.deg2rad(15)), 0, 0]
    np.testing.assert_allclose(values(TripletLoss(0.5), [0, 0, 1, 2], latent), expected, atol=1e-5)


def test_without_a_cell_of_the_same_or_another_type():
    latent = embeddings(5)
    alone = values(TripletLoss(5.0), [0, 0, 1, 2, 2], latent)
    assert alone[2] == 0
    assert (np.delete(alone, 2) > 1).all()
    np.testing.assert_array_equal(values(TripletLoss(5.0), [3] * 5, latent), 0)
    np.testing.assert_array_equal(values(TripletLoss(5.0), range(5), latent), 0)
    np.testing.assert_array_equal(values(TripletLoss(5.0), [1], latent[:1]), 0)
    # Pairs have the half that there is: without a partner the push, without a cell of another type the pull.
    np.testing.assert_array_equal(values(ContrastiveLoss(5.0), [1], latent[:1]), 0)
    gap = float(np.linalg.norm(latent[0] - latent[1]))
    np.testing.assert_allclose(values(ContrastiveLoss(5.0), [0, 1], latent[:2]), (5 - gap) ** 2, rtol=1e-5)
    np.testing.assert_allclose(values(ContrastiveLoss(5.0), [4, 4], latent[:2]), gap**2, rtol=1e-5)


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_order_of_the_batch_and_form_of_the_types_do_not_matter(name):
    types, latent = np.array([0, 1, 2, 0, 1, 2, 2]), embeddings(7)
    loss = get_metric_loss(name, 0.8)
    expected = values(loss, types, latent)
    order = np.random.default_rng(1).permutation(7)
    np.testing.assert_allclose(values(loss, types[order], latent[order]), expected[order], atol=1e-5)
    for form in (types[:, None], types.astype("float32"), types.astype("int64")):
        np.testing.assert_allclose(float(loss(form, latent)), expected.mean(), atol=1e-5)


# Distances


@pytest.mark.parametrize("d", [2, 5, 64])
def test_distances(d):
    latent = embeddings(9, d)
    expected = np.linalg.norm(latent[:, None].astype("float64") - latent[None], axis=2)
    found = keras.ops.convert_to_numpy(distances(keras.ops.convert_to_tensor(latent)))
    # By way of products, the squares are as exact as float32 lengths of one are, not the roots.
    np.testing.assert_allclose(np.square(found), np.square(expected), atol=1e-6)


@pytest.mark.parametrize("d", [2, 5, 64])
def test_identical_embeddings_have_distance_zero(d):
    latent = np.concatenate([embeddings(16, d)] * 2)
    found = keras.ops.convert_to_numpy(distances(keras.ops.convert_to_tensor(latent)))
    np.testing.assert_array_equal(found[np.arange(32), (np.arange(32) + 16) % 32], 0)
    np.testing.assert_array_equal(np.diag(found), 0)


def step(loss, x, types, rate=1.0):
    """Return the kernel of a linear network before and after one step of gradient descent."""
    kernel = keras.initializers.GlorotUniform(seed=1)
    model = keras.Sequential(
        [keras.Input((x.shape[1],)), keras.layers.Dense(4, use_bias=False, kernel_initializer=kernel)]
    )
    model.compile(keras.optimizers.SGD(rate), loss, run_eagerly=True)
    before = model.get_weights()[0]
    model.train_on_batch(x, types)
    return before, model.get_weights()[0]


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_identical_embeddings_give_finite_gradients(name):
    types = np.array([0, 0, 0, 1, 1, 1])
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    x[1] = x[0]
    x[5] = x[3] = x[0]
    before, after = step(get_metric_loss(name, 3.0), x, types)
    assert np.isfinite(after).all()
    change = np.abs(after - before).max()
    assert 1e-3 < change < 100


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_where_all_embeddings_are_the_same_nothing_moves(name):
    """Distance zero has gradient zero: there is no direction to go."""
    x = np.tile(np.random.default_rng(0).normal(size=(1, 5)), (6, 1)).astype("float32")
    before, after = step(get_metric_loss(name, 3.0), x, np.array([0, 0, 0, 1, 1, 1]))
    np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_a_step_pulls_types_together_and_pushes_them_apart(name):
    """The direction of the gradient, by differences of the loss that loops give."""
    looped = looped_contrastive if name == "contrastive" else looped_triplet
    x, types = np.random.default_rng(3).normal(size=(8, 5)).astype("float32"), np.array([0, 1] * 4)
    rate = 1e-3
    before, after = step(get_metric_loss(name, 2.0), x, types, rate)
    gradient, width = np.empty(before.shape), 1e-5
    for index in np.ndindex(before.shape):
        up, down = before.astype("float64"), before.astype("float64")
        up[index] += width
        down[index] -= width
        gap = looped(types, x @ up, 2.0).mean() - looped(types, x @ down, 2.0).mean()
        gradient[index] = gap / (2 * width)
    assert np.abs(gradient).max() > 0.1
    np.testing.assert_allclose((before - after) / rate, gradient, atol=2e-3 * np.abs(gradient).max())


# Margins and names


@pytest.mark.parametrize("margin", [0, 0.5, np.float32(0.25), 3, [[0, 1], [1, 0]], np.ones((3, 3))])
def test_margins(margin):
    found = check_margin(margin)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, margin)


@pytest.mark.parametrize(
    "margin",
    [
        -0.1,
        float("nan"),
        float("inf"),
        "wide",
        None,
        [0.1, 0.2],
        np.ones((2, 3)),
        np.ones((2, 2, 2)),
        [[0, -1], [1, 0]],
        [[0, 1], [1]],
        [[0, float("nan")], [1, 0]],
    ],
)
def test_bad_margins(margin):
    message = r"^`margin` must be a number of at least 0, or a square matrix of such, one for each pair of types\. Rec"
    with pytest.raises(ArgumentError, match=message):
        check_margin(margin)
    for kind in (ContrastiveLoss, TripletLoss):
        with pytest.raises(ArgumentError, match=message):
            kind(margin)


def test_get_metric_loss():
    assert METRIC_LOSSES == ("contrastive", "triplet")
    assert type(get_metric_loss("contrastive", 0.3)) is ContrastiveLoss
    assert type(get_metric_loss("triplet", 0.3)) is TripletLoss
    np.testing.assert_array_equal(get_metric_loss("triplet", MATRIX).margin, MATRIX)
    for name in ("Triplet", "siamese", "", None, 1):
        with pytest.raises(ArgumentError, match=r"`metric_loss` must be one of 'contrastive', 'triplet'\. Received"):
            get_metric_loss(name, 0.3)


@pytest.mark.parametrize("kind", [ContrastiveLoss, TripletLoss])
@pytest.mark.parametrize("margin", [0.3, MATRIX])
def test_losses_are_made_again_from_their_config(kind, margin):
    loss = kind(margin, name="mine", reduction="sum")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is kind
    assert (again.name, again.reduction) == ("mine", "sum")
    np.testing.assert_array_equal(again.margin, margin)
    types, latent = np.array([0, 1, 2, 3, 0, 1]), embeddings(6)
    np.testing.assert_array_equal(values(again, types, latent), values(loss, types, latent))
