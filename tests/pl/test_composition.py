"""``pl.composition``: bars of shares, columns of numbers, colours."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.pl._palette import MISSING, OKABE_ITO


def shares(ax):
    """Share of each entry in each bar, bars by row."""
    return {box.get_label(): [bar.get_width() for bar in box] for box in ax.containers}


def columns(ax):
    """Texts beside the bars, column by column."""
    texts = [text.get_text() for text in ax.texts]
    n = len(ax.get_yticks()) + 1
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def test_shares_are_those_of_a_cross_table_and_add_up(judged):
    ax = scq.pl.composition(judged, "donor", show=False)
    obs = judged.obs
    entry = obs["scquery_label"].astype(object).where(~obs["scquery_unknown"], "unknown")
    expected = pd.crosstab(obs["donor"], entry, normalize="index")
    drawn = pd.DataFrame(shares(ax), index=[text.get_text() for text in ax.get_yticklabels()])
    assert list(drawn.columns) == ["type 0", "type 1", "type 2", "type 3", "unknown"]
    np.testing.assert_allclose(drawn, expected.loc[drawn.index, drawn.columns])
    for row in range(3):
        ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in (box[row] for box in ax.containers)]
        np.testing.assert_allclose([start for start, _ in ends], [0, *(end for _, end in ends[:-1])], atol=1e-12)
        assert ends[-1][1] == pytest.approx(1)
    assert ax.containers[-1][0].get_hatch() == "////"
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_numbers_beside_the_bars(judged):
    ax = scq.pl.composition(judged, "donor", show=False)
    by = judged.obs.groupby("donor", observed=True)
    assert columns(ax) == [
        [*(f"{n}" for n in by.size()), "cells"],
        [*(f"{mean:.2f}" for mean in by["scquery_confidence"].mean()), "confidence"],
        [*(f"{share:.0%}" for share in by["scquery_unknown"].mean()), "unknown"],
    ]


def test_another_column_counts_all_cells_as_it_says(judged):
    judged.obs.iloc[:20, judged.obs.columns.get_loc("truth")] = np.nan
    ax = scq.pl.composition(judged, "donor", label_key="truth", show=False)
    entry = judged.obs["truth"].astype(object).fillna("no label")
    drawn = pd.DataFrame(shares(ax), index=[text.get_text() for text in ax.get_yticklabels()])
    expected = pd.crosstab(judged.obs["donor"], entry, normalize="index")
    np.testing.assert_allclose(drawn, expected.loc[drawn.index, drawn.columns])
    assert list(drawn.columns)[-1] == "no label"
    assert to_hex(ax.containers[-1][0].get_facecolor()) == MISSING
    assert set(judged.uns) == {"truth_colors"}
    assert ax.get_legend().get_title().get_text() == "truth"


def test_colours_are_kept_and_used(judged):
    scq.pl.composition(judged, "donor", show=False)
    assert judged.uns["scquery_label_colors"] == list(OKABE_ITO[:4])
    judged.uns["scquery_label_colors"] = kept = ["#111111", "#222222", "#333333", "#444444"]
    ax = scq.pl.composition(judged, "donor", show=False)
    assert [to_hex(box[0].get_facecolor()) for box in ax.containers[:4]] == kept
    assert [to_hex(patch.get_facecolor()) for patch in ax.get_legend().get_patches()[:4]] == kept
    del judged.uns["scquery_label_colors"]
    view = judged[:50]
    scq.pl.composition(view, "donor", show=False)
    assert view.is_view
    assert "scquery_label_colors" not in view.uns


def test_empty_groups_cells_without_one_and_types_that_do_not_occur_are_left_out(judged):
    judged.obs["donor"] = judged.obs["donor"].cat.add_categories("donor d")
    judged.obs.iloc[:7, judged.obs.columns.get_loc("donor")] = np.nan
    judged.obs["scquery_label"] = judged.obs["scquery_label"].cat.add_categories("never seen")
    ax = scq.pl.composition(judged, "donor", show=False)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["donor a", "donor b", "donor c"]
    assert sum(int(text) for text in columns(ax)[0][:-1]) == judged.n_obs - 7
    assert "never seen" not in [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_cell_without_a_label_is_unknown(judged):
    judged.obs.iloc[:3, judged.obs.columns.get_loc("scquery_label")] = np.nan
    judged.obs.iloc[:3, judged.obs.columns.get_loc("scquery_unknown")] = True
    judged.obs["one"] = "all"
    ax = scq.pl.composition(judged, "one", show=False)
    assert shares(ax)["unknown"] == [pytest.approx(judged.obs["scquery_unknown"].mean())]


def test_legend_and_columns_lie_beside_each_other_inside_the_figure(make_judged):
    adata = make_judged(600, 60, "a cell type with a rather long name, subtype {}")
    ax = scq.pl.composition(adata, "donor", show=False)
    figure = ax.figure
    figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert ax.get_window_extent().x1 < min(box.x0 for box in boxes)
    assert max(box.x1 for box in boxes) < legend.x0
    assert legend.x1 <= figure.bbox.x1
    assert legend.y0 >= 0
    assert legend.y1 <= figure.bbox.y1
    assert ax.get_window_extent().width > 250
    assert len(set(adata.uns["scquery_label_colors"])) == 60


def test_what_is_missing_is_named(judged, make_judged):
    with pytest.raises(MissingKeyError, match=r"`groupby='sample'` is not a column of `adata.obs`"):
        scq.pl.composition(judged, "sample", show=False)
    with pytest.raises(MissingKeyError, match=r"`label_key='coarse'` is not a column of `adata.obs`"):
        scq.pl.composition(judged, "donor", label_key="coarse", show=False)
    with pytest.raises(
        MissingKeyError, match=r"`pl.composition` needs the columns that `scq.tl.query` writes.*'mine_l"
    ):
        scq.pl.composition(judged, "donor", key_added="mine", show=False)
    judged.obs["donor"] = pd.Categorical([None] * judged.n_obs, categories=["a"])
    with pytest.raises(ArgumentError, match=r"`groupby='donor'` has no value in any of 200 cells"):
        scq.pl.composition(judged, "donor", show=False)
    many = make_judged(300)
    many.obs["barcode"] = np.arange(300).astype(str)
    with pytest.raises(ArgumentError, match=r"`groupby='barcode'` has 300 categories, and no more than 256"):
        scq.pl.composition(many, "barcode", show=False)


def test_after_a_real_query(query_adata, reference):
    scq.tl.query(query_adata, reference)
    ax = scq.pl.composition(query_adata, "batch", show=False)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["batch 0", "batch 1"]
    np.testing.assert_allclose(np.sum(list(shares(ax).values()), axis=0), 1)
