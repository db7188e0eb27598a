"""``pl.composition``: fractions, numbers beside the bars, colours."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.pl._palette import MISSING, OKABE_ITO


def fractions(ax):
    """Fraction of each entry in each bar, bars by row."""
    return {box.get_label(): [bar.get_width() for bar in box] for box in ax.containers}


def columns(ax):
    """Texts beside the bars, column by column."""
    texts = [text.get_text() for text in ax.texts]
    n = len(ax.get_yticks()) + 1
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def test_fractions_are_those_of_a_cross_table_and_add_up(queried):
    ax = scq.pl.composition(queried, "donor", show=False)
    obs = queried.obs
    entry = obs["scquery_label"].astype(object).where(~obs["scquery_unknown"], "unknown")
    expected = pd.crosstab(obs["donor"], entry, normalize="index")
    drawn = pd.DataFrame(fractions(ax), index=[text.get_text() for text in ax.get_yticklabels()])
    assert list(drawn.columns) == ["type 0", "type 1", "type 2", "type 3", "unknown"]
    np.testing.assert_allclose(drawn, expected.loc[drawn.index, drawn.columns])
    for row in range(3):
        ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in (box[row] for box in ax.containers)]
        np.testing.assert_allclose([start for start, _ in ends], [0, *(end for _, end in ends[:-1])], atol=1e-12)
        assert ends[-1][1] == pytest.approx(1)
    assert ax.containers[-1][0].get_hatch() == "////"
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_numbers_beside_the_bars(queried):
    ax = scq.pl.composition(queried, "donor", show=False)
    by = queried.obs.groupby("donor", observed=True)
    assert columns(ax) == [
        [*(f"{n}" for n in by.size()), "cells"],
        [*(f"{mean:.2f}" for mean in by["scquery_confidence"].mean()), "confidence"],
        [*(f"{fraction:.0%}" for fraction in by["scquery_unknown"].mean()), "unknown"],
    ]


def test_another_column_of_types_does_not_separate_unknown_cells(queried):
    queried.obs.iloc[:20, queried.obs.columns.get_loc("truth")] = np.nan
    ax = scq.pl.composition(queried, "donor", label_key="truth", show=False)
    entry = queried.obs["truth"].astype(object).fillna("no label")
    drawn = pd.DataFrame(fractions(ax), index=[text.get_text() for text in ax.get_yticklabels()])
    expected = pd.crosstab(queried.obs["donor"], entry, normalize="index")
    np.testing.assert_allclose(drawn, expected.loc[drawn.index, drawn.columns])
    assert list(drawn.columns)[-1] == "no label"
    assert to_hex(ax.containers[-1][0].get_facecolor()) == MISSING
    assert set(queried.uns) == {"truth_colors"}
    assert ax.get_legend().get_title().get_text() == "truth"


def test_colours_are_stored_and_used(queried):
    scq.pl.composition(queried, "donor", show=False)
    assert queried.uns["scquery_label_colors"] == list(OKABE_ITO[:4])
    queried.uns["scquery_label_colors"] = kept = ["#111111", "#222222", "#333333", "#444444"]
    ax = scq.pl.composition(queried, "donor", show=False)
    assert [to_hex(box[0].get_facecolor()) for box in ax.containers[:4]] == kept
    assert [to_hex(patch.get_facecolor()) for patch in ax.get_legend().get_patches()[:4]] == kept
    del queried.uns["scquery_label_colors"]
    view = queried[:50]
    scq.pl.composition(view, "donor", show=False)
    assert view.is_view
    assert "scquery_label_colors" not in view.uns


def test_empty_groups_cells_without_one_and_types_that_do_not_occur_are_left_out(queried):
    queried.obs["donor"] = queried.obs["donor"].cat.add_categories("donor d")
    queried.obs.iloc[:7, queried.obs.columns.get_loc("donor")] = np.nan
    queried.obs["scquery_label"] = queried.obs["scquery_label"].cat.add_categories("never seen")
    ax = scq.pl.composition(queried, "donor", show=False)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["donor a", "donor b", "donor c"]
    assert sum(int(text) for text in columns(ax)[0][:-1]) == queried.n_obs - 7
    assert "never seen" not in [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_cell_without_a_label_is_unknown(queried):
    queried.obs.iloc[:3, queried.obs.columns.get_loc("scquery_label")] = np.nan
    queried.obs.iloc[:3, queried.obs.columns.get_loc("scquery_unknown")] = True
    queried.obs["one"] = "all"
    ax = scq.pl.composition(queried, "one", show=False)
    assert fractions(ax)["unknown"] == [pytest.approx(queried.obs["scquery_unknown"].mean())]


@pytest.mark.slow
def test_legend_and_numbers_fit_beside_each_other(make_queried):
    adata = make_queried(600, 60, "a cell type with a rather long name, subtype {}")
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


def test_missing_columns_and_groups_are_refused(queried, make_queried):
    with pytest.raises(MissingKeyError, match=r"`groupby='sample'` is not a column of `adata.obs`"):
        scq.pl.composition(queried, "sample", show=False)
    with pytest.raises(MissingKeyError, match=r"`label_key='coarse'` is not a column of `adata.obs`"):
        scq.pl.composition(queried, "donor", label_key="coarse", show=False)
    with pytest.raises(
        MissingKeyError, match=r"`pl.composition` needs the columns that `scq.tl.query` writes.*'mine_l"
    ):
        scq.pl.composition(queried, "donor", key_added="mine", show=False)
    queried.obs["donor"] = pd.Categorical([None] * queried.n_obs, categories=["a"])
    with pytest.raises(ArgumentError, match=r"`groupby='donor'` has no value in any of 200 cells"):
        scq.pl.composition(queried, "donor", show=False)
    many = make_queried(300)
    many.obs["barcode"] = np.arange(300).astype(str)
    with pytest.raises(ArgumentError, match=r"`groupby='barcode'` has 300 categories, and at most 256"):
        scq.pl.composition(many, "barcode", show=False)


def test_after_a_real_query(query_adata, reference):
    scq.tl.query(query_adata, reference)
    ax = scq.pl.composition(query_adata, "batch", show=False)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["batch 0", "batch 1"]
    np.testing.assert_allclose(np.sum(list(fractions(ax).values()), axis=0), 1)
