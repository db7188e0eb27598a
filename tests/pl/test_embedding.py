"""``pl.embedding``: points, colours, names and legends."""

import itertools

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgba
from scipy import sparse

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.pl._palette import MISSING, OKABE_ITO, palette


@pytest.fixture
def cells():
    """Sixty cells: three types far apart, every tenth without a label."""
    rng = np.random.default_rng(0)
    types = np.arange(60) % 3
    adata = AnnData(rng.poisson(1.0, (60, 5)).astype(np.float32))
    adata.obsm["X_umap"] = np.c_[10.0 * types, -10.0 * types] + rng.normal(size=(60, 2))
    adata.obsm["X_scquery"] = rng.normal(size=(60, 8)).astype(np.float32)
    adata.obs["type"] = pd.Categorical([None if i % 10 == 0 else "BTN"[t] for i, t in enumerate(types)])
    adata.obs["score"] = np.where(np.arange(60) % 6 == 0, np.nan, np.linspace(0, 1, 60))
    adata.obs["odd"] = np.arange(60) % 2 == 1
    return adata


def scatters(ax):
    return [artist for artist in ax.collections if isinstance(artist, PathCollection)]


def places(scatter):
    return {tuple(np.round(place, 6)) for place in np.asarray(scatter.get_offsets())}


def legend_of(ax):
    legend = ax.get_legend()
    return None if legend is None else [text.get_text() for text in legend.get_texts()]


def test_cells_have_the_colour_of_their_type_over_grey_cells_without_one(cells):
    ax = scq.pl.embedding(cells, color="type", show=False)
    grey, coloured = scatters(ax)
    missing = cells.obs["type"].isna().to_numpy()
    assert places(grey) == {tuple(np.round(p, 6)) for p in cells.obsm["X_umap"][missing]}
    assert grey.get_zorder() < coloured.get_zorder()
    assert {to_hex(c) for c in grey.get_facecolor()} == {MISSING}
    expected = {
        tuple(np.round(place, 6)): to_rgba(OKABE_ITO["BNT".index(label)])
        for place, label in zip(cells.obsm["X_umap"], cells.obs["type"], strict=True)
        if isinstance(label, str)
    }
    offsets = [tuple(np.round(place, 6)) for place in np.asarray(coloured.get_offsets())]
    assert dict(zip(offsets, map(tuple, coloured.get_facecolor()), strict=True)) == expected
    assert len(offsets) == 54
    assert grey.get_rasterized()
    assert coloured.get_rasterized()


def test_the_drawing_order_is_random_and_reproducible(cells):
    first, second = (scq.pl.embedding(cells, color="type", show=False) for _ in range(2))
    colours = [tuple(c) for c in scatters(first)[1].get_facecolor()]
    np.testing.assert_array_equal(scatters(second)[1].get_offsets(), scatters(first)[1].get_offsets())
    # Drawn type by type there would be two changes of colour.
    assert sum(a != b for a, b in itertools.pairwise(colours)) > 20


def test_names_are_at_the_medians_and_in_the_legend(cells):
    ax = scq.pl.embedding(cells, color="type", show=False)
    assert [text.get_text() for text in ax.texts] == ["B", "N", "T"]
    for text in ax.texts:
        median = np.median(cells.obsm["X_umap"][(cells.obs["type"] == text.get_text()).to_numpy()], axis=0)
        np.testing.assert_allclose(text.get_position(), median)
        assert len(text.get_path_effects()) == 1
    assert legend_of(ax) == ["B", "N", "T", "missing"]
    handles = [to_hex(handle.get_color()) for handle in ax.get_legend().legend_handles]
    assert handles == [*OKABE_ITO[:3], MISSING]
    assert ax.get_title() == "type"


def test_axes_are_named_and_have_no_ticks(cells):
    ax = scq.pl.embedding(cells, color="type", show=False)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP 1", "UMAP 2")
    assert [*ax.get_xticks(), *ax.get_yticks()] == []
    for basis, name in (("X_scquery", "scquery"), ("X_pca", "PC"), ("X_tsne", "t-SNE")):
        cells.obsm[basis] = cells.obsm["X_scquery"]
        assert scq.pl.embedding(cells, color="type", basis=basis, show=False).get_ylabel() == f"{name} 2"


@pytest.mark.parametrize("kind", ["array", "frame", "sparse", "short name"])
def test_the_first_two_columns_of_any_embedding(cells, kind):
    values = cells.obsm["X_scquery"]
    cells.obsm["X_other"] = {
        "frame": pd.DataFrame(values, index=cells.obs_names, columns=[f"d{i}" for i in range(8)]),
        "sparse": sparse.csr_matrix(values),
    }.get(kind, values)
    ax = scq.pl.embedding(cells, color="odd", basis="other" if kind == "short name" else "X_other", show=False)
    assert places(scatters(ax)[0]) == {tuple(np.round(p, 6)) for p in values[:, :2].astype(float)}


def test_colours_are_stored_as_in_scanpy(cells):
    scq.pl.embedding(cells, color="type", show=False)
    assert cells.uns["type_colors"] == list(OKABE_ITO[:3])


def test_stored_colours_are_used_and_unchanged(cells):
    kept = np.array(["#112233", "red", "#445566"], dtype=object)
    cells.uns["type_colors"] = kept
    ax = scq.pl.embedding(cells, color="type", show=False)
    assert [to_hex(h.get_color()) for h in ax.get_legend().legend_handles][:3] == ["#112233", "#ff0000", "#445566"]
    assert cells.uns["type_colors"] is kept


@pytest.mark.parametrize("kept", [["red", "blue"], ["red", "blue", "no colour"]])
def test_too_few_or_wrong_colours_are_replaced(cells, kept):
    cells.uns["type_colors"] = kept
    scq.pl.embedding(cells, color="type", show=False)
    assert cells.uns["type_colors"] == list(OKABE_ITO[:3])


def test_colours_of_categories_do_not_depend_on_the_others_that_occur(cells):
    scq.pl.embedding(cells, color="type", show=False)
    part = cells[(cells.obs["type"] == "T").to_numpy()].copy()
    part.obs["type"] = part.obs["type"].cat.set_categories(["B", "N", "T"])
    part.uns["type_colors"] = cells.uns["type_colors"]
    ax = scq.pl.embedding(part, color="type", show=False)
    assert legend_of(ax) == ["T"]
    assert to_hex(ax.get_legend().legend_handles[0].get_color()) == OKABE_ITO[2]


# scanpy 1.11 calls what matplotlib 3.11 will deprecate.
@pytest.mark.filterwarnings("ignore:The set_bad function will be deprecated:PendingDeprecationWarning")
def test_scanpy_uses_the_colours(cells):
    import scanpy as sc

    cells.obs["type"] = cells.obs["type"].cat.add_categories("never seen")
    scq.pl.embedding(cells, color="type", show=False)
    ours = list(cells.uns["type_colors"])
    ax = sc.pl.embedding(cells, "X_umap", color="type", show=False)
    assert list(cells.uns["type_colors"]) == ours
    assert {to_hex(c) for c in ax.collections[-1].get_facecolor()} <= {*ours, "#d3d3d3"}


def test_a_view_is_drawn_and_stays_a_view(cells):
    view = cells[:30]
    scq.pl.embedding(view, color="type", show=False)
    assert view.is_view
    assert "type_colors" not in view.uns


def test_numbers_have_a_colour_bar_and_missing_ones_are_grey(cells):
    ax = scq.pl.embedding(cells, color="score", show=False)
    grey, mapped = scatters(ax)
    score = cells.obs["score"].to_numpy()
    assert len(grey.get_offsets()) == np.isnan(score).sum() == 10
    values = dict(zip(map(tuple, np.round(cells.obsm["X_umap"], 6)), score, strict=True))
    drawn = [values[tuple(np.round(place, 6))] for place in np.asarray(mapped.get_offsets())]
    np.testing.assert_allclose(mapped.get_array(), drawn)
    assert mapped.get_clim() == (np.nanmin(score), np.nanmax(score))
    assert mapped.get_cmap().name == "viridis"
    (bar,) = [other for other in ax.figure.axes if other is not ax]
    assert bar.get_ylabel() == "score"
    assert ax.get_legend() is None
    assert ax.get_title() == ""
    assert "score_colors" not in cells.uns


def test_limits_and_map_of_numbers(cells):
    ax = scq.pl.embedding(cells, color="score", cmap="cividis", vmin=-1, vmax=2, title="a title", show=False)
    mapped = scatters(ax)[1]
    assert mapped.get_clim() == (-1, 2)
    assert mapped.get_cmap().name == "cividis"
    assert ax.get_title() == "a title"


@pytest.mark.parametrize("dtype", ["int32", "Int64", "float32", "Float64"])
def test_all_kinds_of_numbers(cells, dtype):
    cells.obs["n"] = pd.Series(np.arange(60), index=cells.obs_names).astype(dtype)
    (mapped,) = scatters(scq.pl.embedding(cells, color="n", show=False))
    np.testing.assert_array_equal(np.sort(mapped.get_array()), np.arange(60))


def test_infinite_numbers_and_missing_integers_are_missing(cells):
    cells.obs["n"] = pd.array([pd.NA, *range(59)], dtype="Int64")
    assert len(scatters(scq.pl.embedding(cells, color="n", show=False))[0].get_offsets()) == 1
    cells.obs["x"] = np.r_[np.inf, -np.inf, np.arange(58.0)]
    assert len(scatters(scq.pl.embedding(cells, color="x", show=False))[0].get_offsets()) == 2


def test_booleans_are_named_in_the_legend_only(cells):
    ax = scq.pl.embedding(cells, color="odd", show=False)
    assert legend_of(ax) == ["False", "True"]
    assert len(ax.texts) == 0
    assert cells.uns["odd_colors"] == list(OKABE_ITO[:2])
    assert cells.obs["odd"].dtype == bool


def test_text_is_categorical_and_stays_text(cells):
    cells.obs["word"] = np.array(["b", "a", "c"], dtype=object)[np.arange(60) % 3]
    before = cells.obs.copy()
    ax = scq.pl.embedding(cells, color="word", show=False)
    assert legend_of(ax) == ["a", "b", "c"]
    pd.testing.assert_frame_equal(cells.obs, before)


@pytest.mark.parametrize("values", [np.full(60, np.nan), pd.Categorical([None] * 60, categories=["a"])])
def test_all_missing(cells, values):
    cells.obs["nothing"] = values
    ax = scq.pl.embedding(cells, color="nothing", show=False)
    assert len(scatters(ax)[0].get_offsets()) == 60
    assert len(ax.figure.axes) == 1


def test_cells_without_coordinates_are_left_out(cells):
    cells.obsm["X_umap"][:7] = np.nan
    grey, coloured = scatters(scq.pl.embedding(cells, color="type", show=False))
    assert len(grey.get_offsets()) + len(coloured.get_offsets()) == 53


@pytest.mark.parametrize(
    ("legend_loc", "on_data", "beside"),
    [("auto", True, True), ("on data", True, False), ("right margin", False, True), ("none", False, False)],
)
def test_the_place_of_names(cells, legend_loc, on_data, beside):
    ax = scq.pl.embedding(cells, color="type", legend_loc=legend_loc, show=False)
    assert [text.get_text() for text in ax.texts] == (["B", "N", "T"] if on_data else [])
    assert legend_of(ax) == (["B", "N", "T", "missing"] if beside else None)


def crowd(n_types, name):
    rng = np.random.default_rng(1)
    types = np.arange(n_types * 5) % n_types
    adata = AnnData(np.zeros((len(types), 1), np.float32))
    adata.obsm["X_umap"] = rng.normal(0, 5, (n_types, 2))[types] + rng.normal(size=(len(types), 2))
    adata.obs["type"] = pd.Categorical.from_codes(types, [name.format(i) for i in range(n_types)])
    return adata


def overlaps(ax):
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    return sum(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_no_name_hides_a_group_of_a_dozen_cells():
    rng = np.random.default_rng(0)
    sizes = {"a large group": 600, "activated stellate": 12, "quiescent stellate": 12, "mast cell": 8, "one cell": 1}
    centres = {
        "a large group": (0, 0),
        "activated stellate": (12, 6),
        "quiescent stellate": (12, 6.5),
        "mast cell": (0, 9),
    }
    groups = np.repeat(list(sizes), list(sizes.values()))
    spreads = np.where(groups == "a large group", 1.5, 0.05)[:, None]
    points = np.array([centres.get(name, (6, -5)) for name in groups]) + spreads * rng.normal(size=(len(groups), 2))
    adata = AnnData(np.zeros((len(groups), 1), np.float32), obsm={"X_umap": points})
    adata.obs["type"] = pd.Categorical(groups)
    ax = scq.pl.embedding(adata, color="type", legend_loc="on data", show=False)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    for name in sizes:
        mine = ax.transData.transform(points[groups == name])
        hidden = sum(box.count_contains(mine) for box in boxes)
        # A name belongs on a large group.
        assert hidden <= (len(mine) / 4 if name == "a large group" else 0), name
    assert overlaps(ax) == 0
    large = next(text for text in ax.texts if text.get_text() == "a large group")
    np.testing.assert_allclose(large.get_position(), np.median(points[groups == "a large group"], axis=0))


def test_forty_long_names_become_numbers_of_the_legend():
    adata = crowd(40, "a type with quite a long name, {:02d}")
    ax = scq.pl.embedding(adata, color="type", show=False)
    assert [text.get_text() for text in ax.texts] == [str(i) for i in range(1, 41)]
    assert legend_of(ax)[:2] == ["1  a type with quite a long name, 00", "2  a type with quite a long name, 01"]
    assert overlaps(ax) == 0
    assert adata.uns["type_colors"] == list(palette(40))


def test_the_legend_is_beside_the_axes_of_a_wider_figure():
    narrow = scq.pl.embedding(crowd(3, "{}"), color="type", legend_loc="none", show=False).figure
    ax = scq.pl.embedding(crowd(40, "a type with quite a long name, {:02d}"), color="type", show=False)
    ax.figure.canvas.draw()
    legend, frame = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert ax.figure.get_size_inches()[0] > narrow.get_size_inches()[0] + 3
    assert legend.x0 >= frame.x1
    assert legend.x1 <= ax.figure.bbox.x1
    assert legend.y0 >= 0
    assert legend.y1 <= ax.figure.bbox.y1
    assert frame.width > 300


def test_forty_short_names_are_written_without_overlap():
    ax = scq.pl.embedding(crowd(40, "t{}"), color="type", show=False)
    assert [text.get_text() for text in ax.texts] == [f"t{i}" for i in range(40)]
    assert overlaps(ax) == 0


def test_names_do_not_shrink_the_axes():
    adata = crowd(6, "a name that reaches far beyond the left and the right of the place where it belongs, {}")
    frames = []
    for legend_loc in ("none", "on data"):
        ax = scq.pl.embedding(adata, color="type", legend_loc=legend_loc, show=False)
        ax.figure.canvas.draw()
        frames.append(ax.get_window_extent().bounds)
    np.testing.assert_allclose(frames[1], frames[0])
    assert overlaps(ax) == 0


@pytest.mark.slow
def test_more_types_than_fit_into_a_legend_are_named_on_the_data():
    ax = scq.pl.embedding(crowd(111, "{}"), color="type", show=False)
    assert legend_of(ax) is None
    assert len(ax.texts) == 111


def test_the_size_depends_on_the_number_of_cells_unless_given(cells):
    def area(adata, **kwargs):
        return scatters(scq.pl.embedding(adata, color="odd", show=False, **kwargs))[-1].get_sizes()[0]

    many = AnnData(np.zeros((6000, 1), np.float32), obsm={"X_umap": np.random.default_rng(0).normal(size=(6000, 2))})
    many.obs["odd"] = np.arange(6000) % 2 == 1
    assert area(cells) == 25
    assert area(many) == pytest.approx(5)
    assert area(many, size=2.5) == 2.5


def test_given_axes(cells):
    figure, (first, second) = plt.subplots(1, 2)
    size = figure.get_size_inches().copy()
    assert scq.pl.embedding(cells, color="type", ax=first) is first
    assert scq.pl.embedding(cells, color="score", ax=second, show=False) is second
    assert [text.get_text() for text in first.texts] == ["B", "N", "T"]
    assert first.get_legend() is None
    np.testing.assert_array_equal(figure.get_size_inches(), size)
    assert plt.get_fignums() == [figure.number]


def test_axes_in_a_subfigure(cells, tmp_path):
    figure = plt.figure()
    ax = figure.subfigures(1, 2)[0].subplots()
    assert scq.pl.embedding(cells, color="type", ax=ax, save=tmp_path / "a.png") is ax
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert plt.get_fignums() == [figure.number]


def test_points_are_pixels_in_a_vector_file(cells, tmp_path):
    sizes = []
    for n in (60, 6000):
        adata = AnnData(np.zeros((n, 1), np.float32), obsm={"X_umap": np.random.default_rng(0).random((n, 2))})
        adata.obs["x"] = np.arange(n)
        scq.pl.embedding(adata, color="x", size=1, show=False, save=tmp_path / "a.svg")
        sizes.append((tmp_path / "a.svg").read_text().count("<use"))
    # As paths, each point would be an element.
    assert sizes[0] == sizes[1] < 60


def test_nothing_but_colours_is_written(cells):
    before = cells.copy()
    for color in ("type", "score", "odd"):
        scq.pl.embedding(cells, color=color, show=False)
    np.testing.assert_array_equal(cells.X, before.X)
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert set(cells.obsm) == set(before.obsm)
    assert set(cells.uns) == {"type_colors", "odd_colors"}


def test_colours_survive_a_file(cells, tmp_path):
    import anndata

    scq.pl.embedding(cells, color="type", show=False)
    cells.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert list(again.uns["type_colors"]) == list(OKABE_ITO[:3])
    again.uns["type_colors"][0] = "#123456"
    ax = scq.pl.embedding(again, color="type", show=False)
    assert to_hex(ax.get_legend().legend_handles[0].get_color()) == "#123456"


def test_no_such_column(cells):
    message = r"`color='celltype'` is not a column of `adata.obs`\. Expected one of 'type', 'score', 'odd'"
    with pytest.raises(MissingKeyError, match=message):
        scq.pl.embedding(cells, color="celltype", show=False)


def test_no_such_embedding(cells):
    message = r"`basis='X_tsne'` is not in `adata.obsm`\. Expected one of 'X_umap', 'X_scquery'; compute the embedding"
    with pytest.raises(MissingKeyError, match=message):
        scq.pl.embedding(cells, color="type", basis="X_tsne", show=False)
    del cells.obsm["X_umap"], cells.obsm["X_scquery"]
    with pytest.raises(MissingKeyError, match=r"Expected one of \(none there\)"):
        scq.pl.embedding(cells, color="type", show=False)


def test_one_column_is_too_few(cells):
    cells.obsm["X_line"] = np.zeros((60, 1))
    with pytest.raises(ArgumentError, match=r"`adata.obsm\['X_line'\]` must have at least two columns .*\(60, 1\)"):
        scq.pl.embedding(cells, color="type", basis="X_line", show=False)


def test_too_many_categories():
    adata = AnnData(np.zeros((300, 1), np.float32), obsm={"X_umap": np.zeros((300, 2))})
    adata.obs["barcode"] = [f"cell{i}" for i in range(300)]
    message = r"`color='barcode'` has 300 categories, and at most 256 can be coloured\. Received 'cell0'"
    with pytest.raises(ArgumentError, match=message):
        scq.pl.embedding(adata, color="barcode", show=False)


def test_wrong_arguments(cells):
    with pytest.raises(ArgumentError, match=r"`legend_loc` must be one of 'auto', 'on data', .*Received 'best'"):
        scq.pl.embedding(cells, color="type", legend_loc="best", show=False)
    with pytest.raises(ArgumentError, match=r"`size` must be a number in \(0, inf\)\. Received 0"):
        scq.pl.embedding(cells, color="type", size=0, show=False)
    with pytest.raises(
        ArgumentError, match=r"`pl.embedding` takes an AnnData as its first argument\. Received ndarray"
    ):
        scq.pl.embedding(cells.X, color="type", show=False)
    with pytest.raises(ArgumentError, match="`save` must be a path"):
        scq.pl.embedding(cells, color="type", show=False, save=3)
    assert plt.get_fignums() == []
