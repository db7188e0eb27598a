"""``pl.reliability``: bins, intervals and the calibration error."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from scipy.stats import norm
from sklearn.calibration import calibration_curve

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError


def curve(ax):
    line = ax.containers[0].lines[0]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def correct(adata):
    return (adata.obs["truth"].astype(str) == adata.obs["scquery_label"].astype(str)).to_numpy()


@pytest.mark.parametrize("n_bins", [1, 7, 10])
def test_points_are_scikit_learns(queried, n_bins):
    ax = scq.pl.reliability(queried, "truth", n_bins=n_bins, show=False)
    confidence = queried.obs["scquery_confidence"].to_numpy(dtype=float)
    accuracy, mean = calibration_curve(correct(queried), confidence, n_bins=n_bins, strategy="uniform")
    x, y = curve(ax)
    np.testing.assert_allclose(x, mean)
    np.testing.assert_allclose(y, accuracy)


def test_intervals_are_wilsons(queried):
    ax = scq.pl.reliability(queried, "truth", show=False)
    confidence, right = queried.obs["scquery_confidence"].to_numpy(dtype=float), correct(queried)
    bars = next(artist for artist in ax.collections if isinstance(artist, LineCollection))
    drawn = [(segment[0][1], segment[1][1]) for segment in bars.get_segments()]
    z = norm.ppf(0.975)
    expected = []
    for low in np.arange(10) / 10:
        inside = right[(confidence >= low) & (confidence < low + 0.1)]
        if n := len(inside):
            p = inside.mean()
            centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
            expected.append(((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)))
    np.testing.assert_allclose(drawn, expected, atol=1e-9)


def title(ax):
    return ax.child_axes[0].get_title(loc="left")


def test_the_title_has_the_error_of_the_bins_drawn(queried):
    ax = scq.pl.reliability(queried, "truth", n_bins=5, show=False)
    confidence, right = queried.obs["scquery_confidence"].to_numpy(dtype=float), correct(queried)
    error = 0.0
    for low in (0, 0.2, 0.4, 0.6, 0.8):
        inside = (confidence >= low) & (confidence < low + 0.2)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert title(ax).split("\n") == [
        f"200 cells, calibration error {error:.3f}",
        f"accuracy {right.mean():.3f}, mean confidence {confidence.mean():.3f}",
    ]


def test_bins_of_few_cells_are_open_points_that_no_line_joins(queried):
    # Bins of 5, 15, 9, 10 and 161 cells.
    queried.obs["scquery_confidence"] = np.repeat([0.15, 0.35, 0.55, 0.75, 0.95], [5, 15, 9, 10, 161])
    ax = scq.pl.reliability(queried, "truth", show=False)
    points = ax.containers[0].lines[0]
    assert (points.get_linestyle(), points.get_markerfacecolor()) == ("None", "white")
    (line,) = (line for line in ax.lines if line.get_linestyle() == "-")
    assert line.get_markerfacecolor() == line.get_color()
    np.testing.assert_allclose(line.get_xdata(), [0.15, 0.35, 0.55, 0.75, 0.95])
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [True, False, True, False, False])
    np.testing.assert_allclose(line.get_ydata()[[1, 3, 4]], curve(ax)[1][[1, 3, 4]])
    assert ax.get_xlabel() == "confidence of the label\n(open points: fewer than 10 cells)"
    queried.obs["scquery_confidence"] = 0.5
    assert scq.pl.reliability(queried, "truth", show=False).get_xlabel() == "confidence of the label"


@pytest.mark.parametrize("low", [0.02, 0.6])
def test_no_text_covers_a_point(queried, low):
    # All labels are correct, so that points are in the upper corners too.
    queried.obs["truth"] = queried.obs["scquery_label"]
    queried.obs["scquery_confidence"] = np.linspace(low, 1, 200)
    ax = scq.pl.reliability(queried, "truth", show=False)
    ax.figure.canvas.draw()
    points = ax.transData.transform(np.column_stack(curve(ax)))
    texts = [*ax.texts, ax.title, *ax.child_axes[0].texts, ax.child_axes[0]._left_title]
    boxes = [text.get_window_extent().padded(3) for text in texts if text.get_text()]
    assert len(boxes) > 1
    assert not any(box.contains(*point) for box in boxes for point in points)
    assert max(text.get_window_extent().y1 for text in texts) <= ax.figure.bbox.y1


def test_the_histogram_counts_the_cells_of_each_bin(queried):
    ax = scq.pl.reliability(queried, "truth", show=False)
    (above,) = ax.child_axes
    counts, edges = np.histogram(queried.obs["scquery_confidence"].to_numpy(dtype=float), bins=10, range=(0, 1))
    np.testing.assert_array_equal([bar.get_height() for bar in above.patches], counts)
    np.testing.assert_allclose([bar.get_x() for bar in above.patches], edges[:-1])
    assert [text.get_text() for text in above.texts] == [f"{n}" for n in counts if n]
    assert list(above.get_yticks()) == []
    # More bins would not leave room for the numbers.
    (above,) = scq.pl.reliability(queried, "truth", n_bins=20, show=False).child_axes
    assert len(above.texts) == 0
    assert above.get_yticks()[-1] == max(bar.get_height() for bar in above.patches)


def test_a_confidence_of_one_is_in_the_last_bin(queried):
    queried.obs["scquery_confidence"] = np.float32(1)
    ax = scq.pl.reliability(queried, "truth", show=False)
    x, y = curve(ax)
    np.testing.assert_array_equal(x, [1])
    np.testing.assert_allclose(y, [correct(queried).mean()])


def test_only_cells_with_label_and_known_type_count_and_unknown_cells_do(queried):
    column = queried.obs.columns.get_loc
    queried.obs.iloc[:20, column("truth")] = np.nan
    queried.obs.iloc[10:30, column("scquery_label")] = np.nan
    ax = scq.pl.reliability(queried, "truth", show=False)
    kept = queried[30:]
    assert title(ax).startswith("170 cells, ")
    assert f"accuracy {correct(kept).mean():.3f}" in title(ax)


def test_wrong_arguments_and_values_are_refused(queried):
    with pytest.raises(MissingKeyError, match=r"`truth_key='type'` is not a column of `adata.obs`"):
        scq.pl.reliability(queried, "type", show=False)
    with pytest.raises(
        MissingKeyError, match=r"`pl.reliability` needs the columns that `scq.tl.query` writes.*x_label"
    ):
        scq.pl.reliability(queried, "truth", key_added="x", show=False)
    for n_bins in (0, 2.5):
        with pytest.raises(ArgumentError, match="`n_bins` must be an integer of at least 1"):
            scq.pl.reliability(queried, "truth", n_bins=n_bins, show=False)
    with pytest.raises(
        ArgumentError,
        match=r"`pl.reliability` compares type names\. Expected `adata.obs\['donor'\]` to share names with the labels, "
        r"such as 'type 0', .*Received 'donor a', .*\.map\(names\)",
    ):
        scq.pl.reliability(queried, "donor", show=False)
    bad = queried.copy()
    bad.obs["scquery_confidence"] = np.where(np.arange(200) == 3, np.nan, 0.5)
    with pytest.raises(ArgumentError, match=r"needs values from 0 to 1 in `adata.obs\['scquery_confidence'\]`"):
        scq.pl.reliability(bad, "truth", show=False)
    bad.obs["scquery_confidence"] = "high"
    with pytest.raises(ArgumentError, match=r"needs numbers in `adata.obs\['scquery_confidence'\]`"):
        scq.pl.reliability(bad, "truth", show=False)
    queried.obs["truth"] = np.nan
    with pytest.raises(ArgumentError, match=r"needs cells that have a label and a type .* None of 200 cells has both"):
        scq.pl.reliability(queried, "truth", show=False)
