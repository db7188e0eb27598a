"""``pl.explain``: genes of both sides, and those on both."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import scquery_ae as scq
from scquery_ae import ArgumentError


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    made = pd.DataFrame(
        {"value": 0.0, "similarity": rng.normal(size=30), "distance": rng.normal(size=30)},
        index=pd.Index([f"G{i}" for i in range(30)], name="gene"),
    )
    made.attrs = {"cell": "mine", "neighbor": "theirs", "label": "beta", "similarity": 0.876}
    return made


def bars(ax):
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    return dict(zip(names, (patch.get_width() for patch in ax.patches), strict=True))


@pytest.mark.parametrize("n_genes", [1, 7, 15])
def test_the_largest_contributions_to_both_sides(table, n_genes):
    figure = scq.pl.explain(table, n_genes=n_genes, show=False)
    for ax, column in zip(figure.axes, ("similarity", "distance"), strict=True):
        expected = table.loc[table[column] > 0, column].sort_values(ascending=False)[:n_genes]
        received = bars(ax)
        # The largest is at the top.
        assert list(received) == list(expected.index[::-1])
        np.testing.assert_allclose(list(received.values()), expected.to_numpy()[::-1])
        assert ax.get_xlabel().startswith(f"contribution to the cosine {column}")
    assert [ax.get_title() for ax in figure.axes] == ["raise the similarity", "raise the distance"]
    assert figure.get_suptitle() == "mine and theirs (beta), similarity 0.88"


def test_genes_on_both_sides_are_hatched_and_explained(table):
    table["similarity"], table["distance"] = np.linspace(1, 0.1, 30), np.linspace(0.1, 1, 30)
    table.loc[["G1", "G3"], "distance"] = [3.0, 2.0]
    similarity, distance = scq.pl.explain(table, n_genes=5, show=False).axes
    for ax in (similarity, distance):
        assert {"G1", "G3"} <= set(bars(ax))
        hatched = [name for name, bar in zip(bars(ax), ax.patches, strict=True) if bar.get_hatch()]
        assert sorted(hatched) == ["G1", "G3"]
    assert similarity.get_xlabel() == "contribution to the cosine similarity\n(hatched: raises the distance too)"
    assert distance.get_xlabel() == "contribution to the cosine distance\n(hatched: raises the similarity too)"
    similarity, distance = scq.pl.explain(table, n_genes=1, show=False).axes
    assert (list(bars(similarity)), list(bars(distance))) == (["G0"], ["G1"])
    assert "hatched" not in similarity.get_xlabel() + distance.get_xlabel()


def test_a_table_read_from_a_file_has_no_title(table, tmp_path):
    table.to_csv(tmp_path / "t.csv")
    figure = scq.pl.explain(pd.read_csv(tmp_path / "t.csv", index_col=0), show=False)
    assert figure.get_suptitle() == ""
    assert len(figure.axes[0].patches) == min(15, (table["similarity"] > 0).sum())


def test_the_table_of_tl_explain(query_adata, reference):
    table = scq.tl.explain(query_adata, reference, 0)
    figure = scq.pl.explain(table, n_genes=4, show=False)
    assert next(reversed(bars(figure.axes[0]))) == table.index[0]
    assert figure.get_suptitle().startswith(f"cell0 and {table.attrs['neighbor']} (type 0), similarity ")


@pytest.mark.parametrize("value", [None, "table", pd.DataFrame({"similarity": [1.0]}), np.ones((3, 3))])
def test_another_table_is_refused(value):
    with pytest.raises(
        ArgumentError, match=r"`pl\.explain` needs the table of `scq\.tl\.explain\(adata, reference, cell\)`\. Received"
    ):
        scq.pl.explain(value)


@pytest.mark.parametrize("n_genes", [0, -1, 2.0])
def test_a_wrong_number_of_genes_is_refused(table, n_genes):
    with pytest.raises(ArgumentError, match=r"`n_genes` must be an integer of at least 1\. Received"):
        scq.pl.explain(table, n_genes=n_genes)
    assert plt.get_fignums() == []
