"""``pl.query``: bars, confidence and texts."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError

LABELS = ["B"] * 3 + ["T"] * 5 + ["NK"] + [None]
CONFIDENCE = [0.9, 0.8, 0.7, 0.5, 0.6, 0.7, 0.8, 0.1, 0.2, 0.99]
UNKNOWN = [False] * 7 + [True, True, False]


def answered(labels=LABELS, confidence=CONFIDENCE, unknown=UNKNOWN, prefix="scquery"):
    obs = pd.DataFrame(
        {
            f"{prefix}_label": pd.Categorical(labels, categories=["B", "NK", "T", "never seen"]),
            f"{prefix}_confidence": np.array(confidence, dtype=np.float32),
            f"{prefix}_unknown": unknown,
        },
        index=[f"cell{i}" for i in range(len(labels))],
    )
    return AnnData(np.arange(len(labels) * 2, dtype=np.float32).reshape(-1, 2), obs=obs)


def bars(ax):
    """Left end and length of the bars of known and of unknown cells, top to bottom."""
    return [[(bar.get_x(), bar.get_width()) for bar in container] for container in ax.containers]


def test_bars_count_the_cells_largest_on_top():
    left, _ = scq.pl.query(answered(), show=False).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["T", "B", "NK"]
    known, unknown = bars(left)
    assert known == [(0, 4), (0, 3), (0, 0)]
    assert unknown == [(4, 1), (3, 0), (0, 1)]
    bottom, top = left.get_ylim()
    assert bottom > top
    assert left.get_xlabel() == "cells"
    assert {bar.get_hatch() for bar in left.containers[1]} == {"////"}
    assert {bar.get_hatch() for bar in left.containers[0]} == {None}


def test_counts_and_fractions_are_written():
    figure = scq.pl.query(answered(), show=False)
    left = figure.axes[0]
    # 5, 3 and 1 of the nine cells that have a label.
    assert [text.get_text() for text in left.texts] == ["5 (55.6%), 1 unknown", "3 (33.3%)", "1 (11.1%), all unknown"]
    assert figure.get_suptitle() == "9 query cells, 2 (22.2%) unknown"
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["known", "unknown"]


def test_the_texts_are_inside_the_axes():
    figure = scq.pl.query(answered(), show=False)
    figure.canvas.draw()
    left = figure.axes[0]
    frame = left.get_window_extent()
    ends = [text.get_window_extent().x1 for text in left.texts]
    assert frame.x0 + 0.96 * frame.width < max(ends) <= frame.x1


def test_confidence_is_in_the_rows_of_the_bars():
    left, right = scq.pl.query(answered(), show=False).axes
    assert right.get_shared_y_axes().joined(left, right)
    assert right.get_xlim() == (0, 1)
    assert right.get_xlabel() == "confidence of the label"
    thin, thick = [c for c in right.collections if isinstance(c, LineCollection)][:2]
    values = np.array(CONFIDENCE[3:8])
    for lines, (low, high) in ((thin, (5, 95)), (thick, (25, 75))):
        ((start, end),) = lines.get_segments()
        np.testing.assert_allclose([start[0], end[0]], np.percentile(values, [low, high]), rtol=1e-6)
        assert start[1] == end[1] == 0
    medians = [(line.get_xdata()[0], line.get_ydata()[0]) for line in right.lines]
    np.testing.assert_allclose(medians, [(0.6, 0), (0.8, 1), (0.2, 2)], rtol=1e-6)


def test_every_cell_is_a_point_and_unknown_ones_are_grey():
    _, right = scq.pl.query(answered(), show=False).axes
    drawn = {"known": [], "unknown": []}
    for points in (c for c in right.collections if isinstance(c, PathCollection)):
        grey = np.allclose(points.get_facecolor()[0, :3], to_rgba("0.45")[:3])
        drawn["unknown" if grey else "known"] += [*points.get_offsets()[:, 0]]
        assert points.get_rasterized()
        rows = points.get_offsets()[:, 1]
        assert (np.abs(rows - np.round(rows)) <= 0.31).all()
    np.testing.assert_allclose(sorted(drawn["known"]), sorted(CONFIDENCE[:7]), rtol=1e-6)
    np.testing.assert_allclose(sorted(drawn["unknown"]), [0.1, 0.2], rtol=1e-6)


def test_at_most_two_hundred_cells_are_drawn_with_both_extremes():
    confidence = np.random.default_rng(0).random(3000)
    _, right = scq.pl.query(answered(["T"] * 3000, confidence, [False] * 3000), show=False).axes
    points = np.concatenate(
        [np.asarray(c.get_offsets())[:, 0] for c in right.collections if isinstance(c, PathCollection)]
    )
    assert len(points) == 200
    np.testing.assert_allclose([points.min(), points.max()], [confidence.min(), confidence.max()], rtol=1e-6)
    # Evenly by rank: their quantiles are those of all.
    np.testing.assert_allclose(np.quantile(points, [0.25, 0.5]), np.quantile(confidence, [0.25, 0.5]), atol=0.01)


def test_one_type_and_all_unknown():
    figure = scq.pl.query(answered(["T"] * 4, [0.1] * 4, [True] * 4), show=False)
    left = figure.axes[0]
    assert figure.get_suptitle() == "4 query cells, 4 (100%) unknown"
    assert bars(left) == [[(0, 0)], [(0, 4)]]
    assert [text.get_text() for text in left.texts] == ["4 (100%), all unknown"]


def test_one_cell():
    assert scq.pl.query(answered(["T"], [1.0], [False]), show=False).get_suptitle() == "1 query cell, 0 (0%) unknown"


def test_a_fraction_that_would_round_to_zero():
    labels = ["T"] * 3000 + ["B"] * 2
    figure = scq.pl.query(answered(labels, [0.5] * 3002, [False] * 3002), show=False)
    assert [text.get_text() for text in figure.axes[0].texts] == ["3,000 (99.9%)", "2 (<0.1%)"]
    assert figure.get_suptitle() == "3,002 query cells, 0 (0%) unknown"


def test_the_figure_grows_with_types_and_names():
    few = scq.pl.query(answered(), show=False).get_size_inches()
    adata = answered(["T"] * 40, [0.5] * 40, [False] * 40)
    adata.obs["scquery_label"] = pd.Categorical([f"a type with quite a long name, {i}" for i in range(40)])
    many = scq.pl.query(adata, show=False).get_size_inches()
    assert many[1] > 10
    assert many[1] > 3 * few[1]
    assert many[0] > few[0] + 1


def test_missing_values_of_confidence_and_unknown():
    adata = answered(["T", "T", "B"], [np.nan, 0.5, np.nan], [False, True, False])
    # As a concatenation leaves it where one part was not queried.
    adata.obs["scquery_unknown"] = pd.Series([np.nan, True, False], index=adata.obs_names, dtype=object)
    left, right = scq.pl.query(adata, show=False).axes
    assert bars(left) == [[(0, 1), (0, 1)], [(1, 1), (1, 0)]]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in right.lines] == [(0.5, 0)]


def test_another_prefix_and_nothing_is_changed():
    adata = answered(prefix="mine")
    before = adata.copy()
    assert len(scq.pl.query(adata, key_added="mine", show=False).axes) == 2
    np.testing.assert_array_equal(adata.X, before.X)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert dict(adata.uns) == {}


def test_after_a_real_query(query_adata, reference):
    scq.tl.query(query_adata, reference)
    figure = scq.pl.query(query_adata, show=False)
    known, unknown = bars(figure.axes[0])
    totals = [a[1] + b[1] for a, b in zip(known, unknown, strict=True)]
    assert totals == sorted(query_adata.obs["scquery_label"].value_counts(), reverse=True)[: len(totals)]
    assert sum(width for _, width in unknown) == query_adata.obs["scquery_unknown"].sum()


def test_text_is_stored_as_text(tmp_path):
    scq.pl.query(answered(), show=False, save=tmp_path / "query.svg")
    assert "9 query cells, 2 (22.2%) unknown" in (tmp_path / "query.svg").read_text()


def test_not_queried_yet(make_adata):
    message = (
        r"`pl.query` needs the columns that `scq.tl.query` writes\. Not in `adata.obs`: 'scquery_label', "
        r"'scquery_confidence', 'scquery_unknown'\. Call `scq.tl.query\(adata, reference\)` first, or pass the "
        "`key_added` that it was called with"
    )
    with pytest.raises(MissingKeyError, match=message):
        scq.pl.query(make_adata(), show=False)
    adata = answered()
    del adata.obs["scquery_unknown"]
    with pytest.raises(MissingKeyError, match=r"Not in `adata.obs`: 'scquery_unknown'\. Call"):
        scq.pl.query(adata, show=False)


def test_no_cell_with_a_label():
    with pytest.raises(
        ArgumentError, match=r"needs cells with a label\. All 2 values of `adata.obs\['scquery_label'\]` are"
    ):
        scq.pl.query(answered([None, None], [0.1, 0.2], [False, False]), show=False)


def test_not_an_anndata():
    with pytest.raises(ArgumentError, match=r"`pl.query` takes an AnnData as its first argument\. Received DataFrame"):
        scq.pl.query(answered().obs, show=False)
    with pytest.raises(ArgumentError, match="`save` must be a path"):
        scq.pl.query(answered(), show=False, save=3)
