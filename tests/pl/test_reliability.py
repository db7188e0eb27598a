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
def test_points_are_scikit_learns(judged, n_bins):
    ax = scq.pl.reliability(judged, "truth", n_bins=n_bins, show=False)
    confidence = judged.obs["scquery_confidence"].to_numpy(dtype=float)
    accuracy, mean = calibration_curve(correct(judged), confidence, n_bins=n_bins, strategy="uniform")
    x, y = curve(ax)
    np.testing.assert_allclose(x, mean)
    np.testing.assert_allclose(y, accuracy)


def test_intervals_are_wilsons(judged):
    ax = scq.pl.reliability(judged, "truth", show=False)
    confidence, right = judged.obs["scquery_confidence"].to_numpy(dtype=float), correct(judged)
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


def test_the_corner_has_the_error_of_the_bins_drawn(judged):
    ax = scq.pl.reliability(judged, "truth", n_bins=5, show=False)
    confidence, right = judged.obs["scquery_confidence"].to_numpy(dtype=float), correct(judged)
    error = 0.0
    for low in (0, 0.2, 0.4, 0.6, 0.8):
        inside = (confidence >= low) & (confidence < low + 0.2)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert ax.texts[0].get_text().split("\n") == [
        f"calibration error {error:.3f}",
        f"accuracy {right.mean():.3f}",
        f"mean confidence {confidence.mean():.3f}",
        "200 cells",
    ]


def test_the_histogram_counts_the_cells_of_each_bin(judged):
    ax = scq.pl.reliability(judged, "truth", show=False)
    (above,) = ax.child_axes
    counts, edges = np.histogram(judged.obs["scquery_confidence"].to_numpy(dtype=float), bins=10, range=(0, 1))
    np.testing.assert_array_equal([bar.get_height() for bar in above.patches], counts)
    np.testing.assert_allclose([bar.get_x() for bar in above.patches], edges[:-1])
    assert [text.get_text() for text in above.texts] == [f"{n}" for n in counts if n]
    assert list(above.get_yticks()) == []
    # More bins would not leave room for the numbers.
    (above,) = scq.pl.reliability(judged, "truth", n_bins=20, show=False).child_axes
    assert len(above.texts) == 0
    assert above.get_yticks()[-1] == max(bar.get_height() for bar in above.patches)


def test_a_confidence_of_one_is_in_the_last_bin(judged):
    judged.obs["scquery_confidence"] = np.float32(1)
    ax = scq.pl.reliability(judged, "truth", show=False)
    x, y = curve(ax)
    np.testing.assert_array_equal(x, [1])
    np.testing.assert_allclose(y, [correct(judged).mean()])


def test_only_cells_with_label_and_truth_count_and_unknown_ones_do(judged):
    column = judged.obs.columns.get_loc
    judged.obs.iloc[:20, column("truth")] = np.nan
    judged.obs.iloc[10:30, column("scquery_label")] = np.nan
    ax = scq.pl.reliability(judged, "truth", show=False)
    kept = judged[30:]
    assert ax.texts[0].get_text().endswith("170 cells")
    assert f"accuracy {correct(kept).mean():.3f}" in ax.texts[0].get_text()


def test_what_is_missing_or_wrong_is_named(judged):
    with pytest.raises(MissingKeyError, match=r"`truth_key='type'` is not a column of `adata.obs`"):
        scq.pl.reliability(judged, "type", show=False)
    with pytest.raises(
        MissingKeyError, match=r"`pl.reliability` needs the columns that `scq.tl.query` writes.*x_label"
    ):
        scq.pl.reliability(judged, "truth", key_added="x", show=False)
    for n_bins in (0, 2.5):
        with pytest.raises(ArgumentError, match="`n_bins` must be an integer of at least 1"):
            scq.pl.reliability(judged, "truth", n_bins=n_bins, show=False)
    with pytest.raises(
        ArgumentError,
        match=r"`pl.reliability` compares names, and `adata.obs\['donor'\]` shares none with the labels\. Received "
        r"'donor a', .*labels are 'type 0'.*\.map\(names\)",
    ):
        scq.pl.reliability(judged, "donor", show=False)
    bad = judged.copy()
    bad.obs["scquery_confidence"] = np.where(np.arange(200) == 3, np.nan, 0.5)
    with pytest.raises(ArgumentError, match=r"needs values from 0 to 1 in `adata.obs\['scquery_confidence'\]`"):
        scq.pl.reliability(bad, "truth", show=False)
    bad.obs["scquery_confidence"] = "high"
    with pytest.raises(ArgumentError, match=r"needs numbers in `adata.obs\['scquery_confidence'\]`"):
        scq.pl.reliability(bad, "truth", show=False)
    judged.obs["truth"] = np.nan
    with pytest.raises(ArgumentError, match=r"needs cells with a label and a type .* None of 200 has both"):
        scq.pl.reliability(judged, "truth", show=False)
