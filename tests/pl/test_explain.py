"""``pl.explain``: bars of the genes that a table names."""

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
def test_the_largest_parts_of_both_sides(table, n_genes):
    figure = scq.pl.explain(table, n_genes=n_genes, show=False)
    for ax, column in zip(figure.axes, ("similarity", "distance"), strict=True):
        expected = table[column].sort_values(ascending=False)[:n_genes]
        received = bars(ax)
        # The largest is at the top.
        assert list(received) == list(expected.index[::-1])
        np.testing.assert_allclose(list(received.values()), expected.to_numpy()[::-1])
        assert ax.get_xlabel() == f"part of the cosine {column}"
    assert [ax.get_title() for ax in figure.axes] == ["bring them together", "set them apart"]
    assert figure.get_suptitle() == "mine and theirs (beta), similarity 0.88"


def test_fewer_genes_than_asked_for(table):
    figure = scq.pl.explain(table[:3], n_genes=9, show=False)
    assert [len(ax.patches) for ax in figure.axes] == [3, 3]


def test_a_table_that_has_been_through_a_file_has_no_title(table, tmp_path):
    table.to_csv(tmp_path / "t.csv")
    figure = scq.pl.explain(pd.read_csv(tmp_path / "t.csv", index_col=0), show=False)
    assert figure.get_suptitle() == ""
    assert len(figure.axes[0].patches) == 15


def test_the_table_of_tl_explain(query_adata, reference):
    table = scq.tl.explain(query_adata, reference, 0)
    figure = scq.pl.explain(table, n_genes=4, show=False)
    assert next(reversed(bars(figure.axes[0]))) == table.index[0]
    assert figure.get_suptitle().startswith(f"cell0 and {table.attrs['hit']} (type 0), similarity ")


def test_it_is_saved_and_closed(table, tmp_path):
    scq.pl.explain(table, show=False, save=tmp_path / "e.png")
    assert (tmp_path / "e.png").stat().st_size > 1000
    assert plt.get_fignums() == []


@pytest.mark.parametrize("value", [None, "table", pd.DataFrame({"similarity": [1.0]}), np.ones((3, 3))])
def test_another_table_is_refused(value):
    with pytest.raises(ArgumentError, match=r"`pl\.explain` needs the table of `scq\.tl\.explain`\. Received"):
        scq.pl.explain(value)


@pytest.mark.parametrize("n_genes", [0, -1, 2.0])
def test_numbers_of_genes_that_are_none(table, n_genes):
    with pytest.raises(ArgumentError, match=r"`n_genes` must be an integer of at least 1\. Received"):
        scq.pl.explain(table, n_genes=n_genes)
    assert plt.get_fignums() == []
