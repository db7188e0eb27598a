"""``pl.on_reference``: query cells over those of the reference."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

import scquery_ae as scq
from scquery_ae import ArgumentError, MissingKeyError
from scquery_ae.pl._colors import UNKNOWN
from scquery_ae.pl._palette import MISSING, OKABE_ITO


@pytest.fixture
def ground(make_judged):
    return make_judged(200, 4, seed=5)


def scatters(ax):
    return [artist for artist in ax.collections if isinstance(artist, PathCollection)]


def by_place(scatter):
    places = [tuple(np.round(place, 6)) for place in np.asarray(scatter.get_offsets())]
    return dict(zip(places, map(to_hex, scatter.get_facecolor()), strict=True))


def test_cells_stand_at_the_mean_of_their_hits_over_the_grey_reference(judged, ground):
    ax = scq.pl.on_reference(judged, ground, show=False)
    grey, coloured = scatters(ax)
    assert grey.get_zorder() < coloured.get_zorder()
    assert {to_hex(c) for c in grey.get_facecolor()} == {MISSING}
    np.testing.assert_allclose(np.sort(np.asarray(grey.get_offsets())[:, 0]), np.sort(ground.obsm["X_umap"][:, 0]))
    expected = {}
    for row, neighbors in enumerate(judged.obsm["scquery_neighbors"]):
        place = sum(ground.obsm["X_umap"][hit] for hit in neighbors) / len(neighbors)
        obs = judged.obs.iloc[row]
        colour = to_hex(UNKNOWN) if obs["scquery_unknown"] else OKABE_ITO[int(obs["scquery_label"][-1])]
        expected[tuple(np.round(place, 6))] = colour
    assert by_place(coloured) == expected
    assert ax.get_title() == "200 query cells on 200 of the reference"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP 1", "UMAP 2")


def test_names_and_legend_tell_types_unknown_and_reference(judged, ground):
    ax = scq.pl.on_reference(judged, ground, show=False)
    types = [f"type {i}" for i in range(4)]
    # The unknown lie anywhere.
    assert [text.get_text() for text in ax.texts] == types
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*types, "unknown", "reference"]


def test_a_type_called_unknown_keeps_its_name(judged, ground):
    judged.obs["scquery_label"] = judged.obs["scquery_label"].cat.rename_categories({"type 3": "unknown"})
    legend = scq.pl.on_reference(judged, ground, show=False).get_legend()
    assert [text.get_text() for text in legend.get_texts()][-3:] == ["unknown", "called unknown", "reference"]


def test_coordinates_of_the_query_are_used_when_asked_for(judged, ground):
    ax = scq.pl.on_reference(judged, ground, place="basis", color="donor", show=False)
    _, coloured = scatters(ax)
    assert set(by_place(coloured)) == {tuple(np.round(place, 6)) for place in judged.obsm["X_umap"]}
    assert judged.uns["donor_colors"] == list(OKABE_ITO[:3])


def test_numbers_have_a_colour_bar(judged, ground):
    ax = scq.pl.on_reference(judged, ground, color="scquery_confidence", vmin=0, vmax=1, title="mine", show=False)
    _, mapped = scatters(ax)
    assert mapped.get_clim() == (0, 1)
    np.testing.assert_allclose(np.sort(mapped.get_array()), np.sort(judged.obs["scquery_confidence"]))
    assert ax.get_title() == "mine"
    assert dict(judged.uns) == {}


def test_colours_are_the_querys_and_nothing_else_changes(judged, ground):
    before, below = judged.copy(), ground.copy()
    scq.pl.on_reference(judged, ground, show=False)
    assert judged.uns["scquery_label_colors"] == list(OKABE_ITO[:4])
    assert dict(ground.uns) == dict(below.uns) == {}
    assert set(judged.obsm) == set(before.obsm)
    assert set(judged.obs) == set(before.obs)
    judged.uns["scquery_label_colors"] = ["#111111", "#222222", "#333333", "#444444"]
    ax = scq.pl.on_reference(judged, ground, show=False)
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


def test_what_is_missing_or_wrong_is_named(judged, ground, reference):
    with pytest.raises(ArgumentError, match=r"`reference` must be the AnnData of the reference's cells.*Received Ref"):
        scq.pl.on_reference(judged, reference, show=False)
    with pytest.raises(
        ArgumentError, match=r"`pl.on_reference` needs the reference that was queried\. The neighbors point"
    ):
        scq.pl.on_reference(judged, ground[:50], show=False)
    with pytest.raises(ArgumentError, match=r"`place` must be one of 'neighbors', 'basis'\. Received 'umap'"):
        scq.pl.on_reference(judged, ground, place="umap", show=False)
    with pytest.raises(MissingKeyError, match=r"`pl.on_reference` needs the columns that `scq.tl.query` writes"):
        scq.pl.on_reference(judged, ground, key_added="x", show=False)
    with pytest.raises(MissingKeyError, match=r"`color='kind'` is not a column of `adata.obs`"):
        scq.pl.on_reference(judged, ground, color="kind", show=False)
    with pytest.raises(MissingKeyError, match=r"`basis='X_tsne'` is not in `reference.obsm`.*sc.tl.umap\(reference\)"):
        scq.pl.on_reference(judged, ground, basis="X_tsne", show=False)
    del judged.obsm["X_umap"]
    with pytest.raises(MissingKeyError, match=r"`basis='X_umap'` is not in `adata.obsm`"):
        scq.pl.on_reference(judged, ground, place="basis", show=False)
