"""``pl.neighbors_by_batch``: fractions of neighbors and of reference cells by batch."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.pl._palette import MISSING, OKABE_ITO


@pytest.fixture
def cells(make_queried):
    """Cells of the reference whose rows are the neighbors of `queried`."""
    adata = make_queried(200, 4, seed=5)
    adata.obs["batch"] = pd.Categorical(np.array(["Baron", "Kang", "Xin"])[np.arange(200) % 3])
    return adata


def lanes(ax):
    """Widths of the upper and of the lower bars: for each a list of bars, by the colour of the batch."""
    upper, lower = {}, {}
    for box in ax.containers:
        lane = upper if box[0].get_height() > 0.4 else lower
        lane[to_hex(box[0].get_facecolor())] = [bar.get_width() for bar in box]
    return upper, lower


def names(ax):
    return [text.get_text().rsplit(" (", 1)[0] for text in ax.get_yticklabels()]


def test_fractions_are_those_of_cross_tables(queried, cells):
    ax = scq.pl.neighbors_by_batch(queried, cells, label_key="truth", show=False)
    upper, lower = lanes(ax)
    assert list(upper) == list(lower) == list(OKABE_ITO[:3])
    neighbors = queried.obsm["scquery_neighbors"]
    labels = np.repeat(queried.obs["scquery_label"].astype(str).to_numpy(), neighbors.shape[1])
    batches = cells.obs["batch"].astype(str).to_numpy()[neighbors.ravel()]
    expected = pd.crosstab(labels, batches, normalize="index").loc[names(ax)]
    np.testing.assert_allclose(pd.DataFrame(upper), expected)
    held = pd.crosstab(cells.obs["truth"].astype(str), cells.obs["batch"].astype(str), normalize="index")
    np.testing.assert_allclose(pd.DataFrame(lower), held.loc[names(ax)])


def test_types_are_ordered_by_their_number_of_cells(queried, cells):
    ax = scq.pl.neighbors_by_batch(queried, cells, show=False)
    counts = queried.obs["scquery_label"].value_counts()
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"{kind} ({counts[kind]})" for kind in names(ax)]
    assert [counts[kind] for kind in names(ax)] == sorted(counts, reverse=True)
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_without_types_of_the_reference_there_are_no_lower_bars(queried, cells):
    for reference in (cells, cells.obs):
        ax = scq.pl.neighbors_by_batch(queried, reference, show=False)
        assert lanes(ax)[1] == {}
        assert ax.get_xlabel() == "fraction of neighbors"


def test_colours_are_stored_with_the_reference(queried, cells):
    scq.pl.neighbors_by_batch(queried, cells.obs, show=False)
    assert "batch_colors" not in cells.uns
    scq.pl.neighbors_by_batch(queried, cells, show=False)
    assert cells.uns["batch_colors"] == list(OKABE_ITO[:3])
    cells.uns["batch_colors"] = ["#111111", "#222222", "#333333"]
    ax = scq.pl.neighbors_by_batch(queried, cells, show=False)
    assert list(lanes(ax)[0]) == ["#111111", "#222222", "#333333"]
    assert dict(queried.uns) == {}


def test_reference_cells_without_a_batch_are_grey(queried, cells):
    cells.obs.iloc[:50, cells.obs.columns.get_loc("batch")] = np.nan
    ax = scq.pl.neighbors_by_batch(queried, cells, show=False)
    neighbors = queried.obsm["scquery_neighbors"]
    labels = queried.obs["scquery_label"].astype(str).to_numpy()
    expected = [(neighbors[labels == kind] < 50).mean() for kind in names(ax)]
    np.testing.assert_allclose(lanes(ax)[0][MISSING], expected)
    assert ax.get_legend().get_texts()[-1].get_text() == "missing"


def test_a_type_that_the_reference_lacks_has_no_lower_bar(queried, cells):
    cells.obs["truth"] = cells.obs["truth"].cat.rename_categories({"type 0": "other"})
    ax = scq.pl.neighbors_by_batch(queried, cells, label_key="truth", show=False)
    lower = pd.DataFrame(lanes(ax)[1], index=names(ax)).sum(axis=1)
    assert lower["type 0"] == 0
    np.testing.assert_allclose(lower.drop("type 0"), 1)


def test_a_reference_has_its_types(query_adata, reference):
    scq.tl.query(query_adata, reference)
    ax = scq.pl.neighbors_by_batch(query_adata, reference, batch_key="batch", show=False)
    upper, lower = (pd.DataFrame(lane, index=names(ax)) for lane in lanes(ax))
    np.testing.assert_allclose(upper.sum(axis=1), 1)
    table = pd.crosstab(reference.obs["cell_type"].astype(str), reference.obs["batch"].astype(str), normalize="index")
    np.testing.assert_allclose(lower, table.loc[names(ax)])
    assert ax.get_legend().get_title().get_text() == "batch"


@pytest.mark.slow
def test_sixty_types_and_seventeen_batches_fit(make_queried):
    adata = make_queried(600, 60, "a cell type with a rather long name, subtype {}")
    adata.obs["batch"] = pd.Categorical([f"Author number {i} et al." for i in np.arange(600) % 17])
    ax = scq.pl.neighbors_by_batch(adata, adata, show=False)
    ax.figure.canvas.draw()
    labels = [text.get_window_extent() for text in ax.get_yticklabels()]
    assert min(box.x0 for box in labels) >= 0
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(labels))
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1
    assert ax.get_window_extent().width > 200


def test_wrong_arguments_are_refused(queried, cells):
    with pytest.raises(ArgumentError, match=r"`reference` must be the reference that was queried.*Received str; open"):
        scq.pl.neighbors_by_batch(queried, "pbmc.scq", show=False)
    with pytest.raises(MissingKeyError, match=r"`batch_key='lab'` is not in the reference's `obs`. Expected one of"):
        scq.pl.neighbors_by_batch(queried, cells, batch_key="lab", show=False)
    with pytest.raises(MissingKeyError, match=r"`label_key='kind'` is not in the reference's `obs`"):
        scq.pl.neighbors_by_batch(queried, cells, label_key="kind", show=False)
    with pytest.raises(
        ArgumentError,
        match=r"the reference that was queried\. The neighbors .* are its rows \d to 19\d\. Received .* of 100 cells",
    ):
        scq.pl.neighbors_by_batch(queried, cells[:100], show=False)
    with pytest.raises(MissingKeyError, match=r"`pl.neighbors_by_batch` needs the columns that `scq.tl.query` writes"):
        scq.pl.neighbors_by_batch(queried, cells, key_added="x", show=False)
    none = queried.copy()
    none.obs["scquery_label"] = pd.Categorical([None] * 200, categories=["type 0"])
    with pytest.raises(ArgumentError, match=r"`pl.neighbors_by_batch` needs cells with a label. None of 200 has one"):
        scq.pl.neighbors_by_batch(none, cells, show=False)
    del queried.obsm["scquery_neighbors"]
    with pytest.raises(
        MissingKeyError, match=r"needs the neighbors that `scq.tl.query` writes\. Not in `adata.obsm`: 'scqu"
    ):
        scq.pl.neighbors_by_batch(queried, cells, show=False)
