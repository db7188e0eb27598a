"""``pl.confusion``: counts, fractions called unknown, shades and the order of types."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle
from sklearn.metrics import confusion_matrix

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.ontology import CellOntology
from scquery_ae.pl._order import by_confusion, by_ontology

OBO = """format-version: 1.2

[Term]
id: X:1
name: cell

[Term]
id: X:2
name: lymphocyte
is_a: X:1

[Term]
id: X:3
name: myeloid
is_a: X:1

[Term]
id: X:4
name: T cell
is_a: X:2

[Term]
id: X:5
name: B cell
is_a: X:2

[Term]
id: X:6
name: monocyte
is_a: X:3

[Term]
id: X:7
name: macrophage
is_a: X:3

[Term]
id: Y:1
name: alone
"""


@pytest.fixture
def obo(tmp_path) -> Path:
    path = tmp_path / "small.obo"
    path.write_text(OBO)
    return path


def rows(ax):
    return [text.get_text().rsplit(" (", 1)[0] for text in ax.get_yticklabels()]


def columns(ax):
    return [text.get_text() for text in ax.get_xticklabels()]


def shades(ax):
    """Shades of the labels, and of the column of cells called unknown."""
    labels, unknown = [artist for artist in ax.collections if isinstance(artist, QuadMesh)]
    return labels.get_array().reshape(len(rows(ax)), -1), unknown.get_array().ravel()


def written(ax):
    """Counts and percentages as written, 0 where nothing is."""
    table = np.zeros((len(rows(ax)), len(columns(ax))), dtype=int)
    for text in ax.texts:
        x, y = text.get_position()
        column = int(np.argmin(np.abs(ax.get_xticks() - x)))
        assert text.get_text().endswith("%") == (column == len(columns(ax)) - 1)
        table[int(y), column] = int(text.get_text().removesuffix("%"))
    return table[:, :-1], table[:, -1]


def test_counts_are_scikit_learns(queried):
    ax = scq.pl.confusion(queried, "truth", show=False)
    obs = queried.obs
    *names, last = columns(ax)
    expected = confusion_matrix(obs["truth"].astype(str), obs["scquery_label"].astype(str), labels=names)
    assert last == "called unknown"
    assert rows(ax) == names
    np.testing.assert_array_equal(written(ax)[0], expected)
    np.testing.assert_allclose(shades(ax)[0], expected / expected.sum(axis=1, keepdims=True))
    counts = obs["truth"].value_counts()
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"{kind} ({counts[kind]})" for kind in rows(ax)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("label", "true type (truth)")


def test_one_scale_explains_both_colours_and_names_stand_beside_their_axes(queried):
    ax = scq.pl.confusion(queried, "truth", show=False)
    labels, unknown = [artist for artist in ax.collections if isinstance(artist, QuadMesh)]
    grey, blue = ax.child_axes
    for bar, mesh in ((grey, unknown), (blue, labels)):
        (scale,) = [artist for artist in bar.collections if isinstance(artist, QuadMesh)]
        assert scale.get_cmap() == mesh.get_cmap()
        assert bar.get_ylim() == (0, 1)
    assert blue.get_ylabel() == "fraction of the true type\n(blue: label, grey: called unknown)"
    ax.figure.canvas.draw()
    assert grey.get_window_extent().x1 == pytest.approx(blue.get_window_extent().x0, abs=1)
    name, squares = ax.xaxis.label.get_window_extent(), ax.get_window_extent()
    assert 0 < name.y0 - squares.y1 < 20
    # Over the labels, without the column of cells called unknown.
    n = len(columns(ax)) - 1
    middle = ax.transData.transform(((n - 1) / 2, 0))[0]
    assert (name.x0 + name.x1) / 2 == pytest.approx(middle, abs=3)


def test_unknown_cells_count_under_their_label_and_their_fraction_is_a_column(queried):
    obs = queried.obs
    before = written(scq.pl.confusion(queried, "truth", show=False))[0]
    obs["scquery_unknown"] = (obs["truth"] == "type 1") | (np.arange(200) % 5 == 0)
    ax = scq.pl.confusion(queried, "truth", show=False)
    counts, percentages = written(ax)
    np.testing.assert_array_equal(counts, before)
    expected = obs.groupby("truth", observed=True)["scquery_unknown"].mean()[rows(ax)]
    assert expected["type 1"] == 1
    np.testing.assert_allclose(shades(ax)[1], expected)
    np.testing.assert_array_equal(percentages, (100 * expected).round().astype(int))


def test_frames_mark_correct_labels_of_types_on_both_sides(queried):
    queried.obs["truth"] = queried.obs["truth"].cat.rename_categories({"type 0": "a new type"})
    ax = scq.pl.confusion(queried, "truth", show=False)
    frames = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    marked = {(rows(ax)[round(f.get_y() + 0.5)], columns(ax)[round(f.get_x() + 0.5)]) for f in frames}
    assert marked == {(f"type {i}", f"type {i}") for i in (1, 2, 3)}
    assert "a new type" in rows(ax)
    assert "a new type" not in columns(ax)
    assert "type 0" in columns(ax)


def test_a_known_type_of_the_reference_that_no_cell_is_labelled_with_keeps_its_column(queried):
    queried.obs.loc[queried.obs["scquery_label"] == "type 3", "scquery_label"] = "type 0"
    assert "type 3" in columns(scq.pl.confusion(queried, "truth", show=False))


def test_cells_without_a_known_type_are_left_out_and_those_without_a_label_have_a_column(queried):
    column = queried.obs.columns.get_loc
    queried.obs.iloc[:30, column("truth")] = np.nan
    queried.obs.iloc[25:60, column("scquery_label")] = np.nan
    ax = scq.pl.confusion(queried, "truth", show=False)
    assert columns(ax)[-2:] == ["no label", "called unknown"]
    counts, _ = written(ax)
    assert counts.sum() == 170
    assert counts[:, -1].sum() == (queried.obs["scquery_label"].isna() & queried.obs["truth"].notna()).sum() == 30


def test_types_mistaken_for_each_other_are_adjacent():
    # 0 and 3 are mistaken for each other, and so are 1 and 4.
    counts = np.diag([50, 50, 50, 50, 50])
    counts[0, 3] = counts[3, 0] = counts[1, 4] = 30
    order = list(by_confusion(counts))
    assert abs(order.index(0) - order.index(3)) == 1
    assert abs(order.index(1) - order.index(4)) == 1
    np.testing.assert_array_equal(by_confusion(np.eye(2, dtype=int)), [0, 1])
    np.testing.assert_array_equal(by_confusion(np.zeros((1, 1), dtype=int)), [0])


def test_relatives_in_the_ontology_are_adjacent(obo):
    ontology = CellOntology.read(obo)
    types = ["B cell", "T cell", "alone", "macrophage", "monocyte", "no term"]
    order = [types[i] for i in by_ontology(types, ontology, None)]
    assert abs(order.index("B cell") - order.index("T cell")) == 1
    assert abs(order.index("macrophage") - order.index("monocyte")) == 1
    assert order[-1] == "no term"
    # A term without a common ancestor separates no relatives: it is the first or the last with a term.
    assert order.index("alone") in (0, 4)


def test_the_order_of_the_ontology_is_drawn(make_queried, obo):
    adata = make_queried(200, 4)
    names = {"type 0": "T cell", "type 1": "monocyte", "type 2": "B cell", "type 3": "macrophage"}
    for how in ({"ontology": obo}, {"ontology": CellOntology.read(obo), "terms": names}):
        mine = adata.copy()
        if "terms" not in how:
            for key in ("truth", "scquery_label"):
                mine.obs[key] = mine.obs[key].cat.rename_categories(names)
        drawn = [names.get(kind, kind) for kind in rows(scq.pl.confusion(mine, "truth", show=False, **how))]
        assert {frozenset(drawn[:2]), frozenset(drawn[2:])} == {
            frozenset({"T cell", "B cell"}),
            frozenset({"monocyte", "macrophage"}),
        }


def test_a_given_order(queried):
    ax = scq.pl.confusion(queried, "truth", order=["type 2", "not there", "type 0"], show=False)
    assert rows(ax)[:2] == ["type 2", "type 0"]
    assert sorted(rows(ax)) == [f"type {i}" for i in range(4)]


@pytest.mark.slow
def test_two_and_sixty_types_fit(make_queried):
    ax = scq.pl.confusion(make_queried(40, 2), "truth", show=False)
    assert written(ax)[0].sum() == 40
    ax = scq.pl.confusion(make_queried(600, 60, "a cell type with a rather long name, subtype {}"), "truth", show=False)
    figure = ax.figure
    figure.canvas.draw()
    assert written(ax)[0].sum() == 600
    boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
    assert min(text.get_window_extent().y0 for text in ax.get_xticklabels()) >= 0
    # Numbers fit into their squares.
    side = ax.get_window_extent().width / (61 + 0.35)
    assert max(text.get_window_extent().width for text in ax.texts) < side


def test_numbers_that_would_be_too_small_are_left_out(make_queried):
    from matplotlib import pyplot as plt

    _, ax = plt.subplots(figsize=(2, 2))
    scq.pl.confusion(make_queried(600, 60), "truth", ax=ax, show=False)
    assert len(ax.texts) == 0


def test_wrong_arguments_are_refused(queried, obo, tmp_path):
    with pytest.raises(MissingKeyError, match=r"`truth_key='type'` is not a column of `adata.obs`"):
        scq.pl.confusion(queried, "type", show=False)
    with pytest.raises(MissingKeyError, match=r"`pl.confusion` needs the columns that `scq.tl.query` writes"):
        scq.pl.confusion(queried, "truth", key_added="other", show=False)
    with pytest.raises(MissingKeyError, match="There is no ontology at"):
        scq.pl.confusion(queried, "truth", ontology=tmp_path / "none.obo", show=False)
    with pytest.raises(MissingKeyError, match="The ontology has no term 'X:99'"):
        scq.pl.confusion(queried, "truth", ontology=obo, terms={"type 0": "X:99"}, show=False)
    with pytest.raises(ArgumentError, match=r"`ontology` needs terms of the types\. .* pass terms as `terms="):
        scq.pl.confusion(queried, "truth", ontology=obo, show=False)
    with pytest.raises(ArgumentError, match=r"`terms` needs an `ontology`. Received none"):
        scq.pl.confusion(queried, "truth", terms={"type 0": "X:4"}, show=False)
    with pytest.raises(ArgumentError, match=r"`terms` must map types to terms of the ontology. Received list"):
        scq.pl.confusion(queried, "truth", ontology=obo, terms=["X:4"], show=False)
    with pytest.raises(ArgumentError, match=r"`order` and `ontology` both order the types. Received both"):
        scq.pl.confusion(queried, "truth", ontology=obo, order=["type 0"], show=False)
    with pytest.raises(ArgumentError, match=r"`order` must be a sequence of types, or None. Received 'type 0'"):
        scq.pl.confusion(queried, "truth", order="type 0", show=False)
    queried.obs["truth"] = pd.Categorical([None] * queried.n_obs, categories=["a"])
    with pytest.raises(ArgumentError, match=r"`pl.confusion` needs cells of a known type\. All 200 values of"):
        scq.pl.confusion(queried, "truth", show=False)
