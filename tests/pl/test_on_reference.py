"""``pl.on_reference``: positions and colours of query cells over the reference."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.pl._colors import UNKNOWN
from scquery_ae.pl._palette import MISSING, OKABE_ITO


@pytest.fixture
def ground(make_queried):
    return make_queried(200, 4, seed=5)


def scatters(ax):
    return [artist for artist in ax.collections if isinstance(artist, PathCollection)]


def by_place(scatter):
    places = [tuple(np.round(place, 6)) for place in np.asarray(scatter.get_offsets())]
    return dict(zip(places, map(to_hex, scatter.get_facecolor()), strict=True))


def test_cells_are_drawn_at_the_mean_of_their_neighbors_over_the_grey_reference(queried, ground):
    ax = scq.pl.on_reference(queried, ground, show=False)
    grey, coloured = scatters(ax)
    assert grey.get_zorder() < coloured.get_zorder()
    assert {to_hex(c) for c in grey.get_facecolor()} == {MISSING}
    np.testing.assert_allclose(np.sort(np.asarray(grey.get_offsets())[:, 0]), np.sort(ground.obsm["X_umap"][:, 0]))
    expected = {}
    for row, neighbors in enumerate(queried.obsm["scquery_neighbors"]):
        place = sum(ground.obsm["X_umap"][row_] for row_ in neighbors) / len(neighbors)
        obs = queried.obs.iloc[row]
        colour = to_hex(UNKNOWN) if obs["scquery_unknown"] else OKABE_ITO[int(obs["scquery_label"][-1])]
        expected[tuple(np.round(place, 6))] = colour
    assert by_place(coloured) == expected
    assert ax.get_title() == "200 query cells on 200 reference cells"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP 1", "UMAP 2")


def test_the_legend_has_types_unknown_cells_and_the_reference(queried, ground):
    ax = scq.pl.on_reference(queried, ground, show=False)
    types = [f"type {i}" for i in range(4)]
    # Unknown cells are no group with a place of its own.
    assert [text.get_text() for text in ax.texts] == types
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*types, "unknown", "reference"]


def test_a_type_called_unknown_keeps_its_name(queried, ground):
    queried.obs["scquery_label"] = queried.obs["scquery_label"].cat.rename_categories({"type 3": "unknown"})
    legend = scq.pl.on_reference(queried, ground, show=False).get_legend()
    assert [text.get_text() for text in legend.get_texts()][-3:] == ["unknown", "called unknown", "reference"]


def test_coordinates_of_the_query(queried, ground):
    ax = scq.pl.on_reference(queried, ground, place="basis", color="donor", show=False)
    _, coloured = scatters(ax)
    assert set(by_place(coloured)) == {tuple(np.round(place, 6)) for place in queried.obsm["X_umap"]}
    assert queried.uns["donor_colors"] == list(OKABE_ITO[:3])


def test_numbers_have_a_colour_bar(queried, ground):
    ax = scq.pl.on_reference(queried, ground, color="scquery_confidence", vmin=0, vmax=1, title="mine", show=False)
    _, mapped = scatters(ax)
    assert mapped.get_clim() == (0, 1)
    np.testing.assert_allclose(np.sort(mapped.get_array()), np.sort(queried.obs["scquery_confidence"]))
    assert ax.get_title() == "mine"
    assert dict(queried.uns) == {}


def test_colours_are_stored_with_the_query_and_nothing_else_changes(queried, ground):
    before, below = queried.copy(), ground.copy()
    scq.pl.on_reference(queried, ground, show=False)
    assert queried.uns["scquery_label_colors"] == list(OKABE_ITO[:4])
    assert dict(ground.uns) == dict(below.uns) == {}
    assert set(queried.obsm) == set(before.obsm)
    assert set(queried.obs) == set(before.obs)
    queried.uns["scquery_label_colors"] = ["#111111", "#222222", "#333333", "#444444"]
    ax = scq.pl.on_reference(queried, ground, show=False)
    assert {to_hex(handle.get_color()) for handle in ax.get_legend().legend_handles[:4]} == {
        "#111111",
        "#222222",
        "#333333",
        "#444444",
    }


def test_after_a_real_query(trained, query_adata, reference):
    ground = trained.adata.copy()
    ground.obsm["X_map"] = np.random.default_rng(0).normal(size=(ground.n_obs, 3))
    scq.tl.query(query_adata, reference)
    ax = scq.pl.on_reference(query_adata, ground, basis="map", show=False)
    assert len(scatters(ax)[1].get_offsets()) == query_adata.n_obs
    assert ax.get_xlabel() == "map 1"


def test_wrong_arguments_are_refused(queried, ground, reference):
    with pytest.raises(ArgumentError, match=r"`reference` must be the AnnData of the reference's cells.*Received Ref"):
        scq.pl.on_reference(queried, reference, show=False)
    with pytest.raises(
        ArgumentError, match=r"`pl.on_reference` needs the reference that was queried\. The neighbors in"
    ):
        scq.pl.on_reference(queried, ground[:50], show=False)
    with pytest.raises(ArgumentError, match=r"`place` must be one of 'neighbors', 'basis'\. Received 'umap'"):
        scq.pl.on_reference(queried, ground, place="umap", show=False)
    with pytest.raises(MissingKeyError, match=r"`pl.on_reference` needs the columns that `scq.tl.query` writes"):
        scq.pl.on_reference(queried, ground, key_added="x", show=False)
    with pytest.raises(MissingKeyError, match=r"`color='kind'` is not a column of `adata.obs`"):
        scq.pl.on_reference(queried, ground, color="kind", show=False)
    with pytest.raises(MissingKeyError, match=r"`basis='X_tsne'` is not in `reference.obsm`.*sc.tl.umap\(reference\)"):
        scq.pl.on_reference(queried, ground, basis="X_tsne", show=False)
    del queried.obsm["X_umap"]
    with pytest.raises(MissingKeyError, match=r"`basis='X_umap'` is not in `adata.obsm`"):
        scq.pl.on_reference(queried, ground, place="basis", show=False)
