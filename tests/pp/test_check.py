"""``pp.check``: what it reports, and that it changes nothing."""

import dataclasses
import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
import scanpy as sc

import scquery_ae as scq


def test_a_good_query(query_adata, reference):
    report = scq.pp.check(query_adata, reference)
    model = query_adata[:, reference.encoder.genes].X.toarray()
    assert report.n_obs == 30
    assert report.genes == {
        "n_genes": 100,
        "n_found": 100,
        "key": "var_names",
        "guessed": True,
        "missing": [],
        "ambiguous": [],
    }
    assert report.important_missing == ()
    assert (report.species, report.reference_species) == ("human", "human")
    assert report.source == "X"
    assert report.input_state == "counts"
    assert report.reason.startswith("all values are whole numbers")
    assert report.counts == np.median(model.sum(axis=1))
    assert report.detected == np.median((model > 0).sum(axis=1))
    assert report.empty == ()
    assert report.problems == ()
    assert str(report).splitlines() == [
        "cells     30, read from X",
        f"values    counts: {report.reason}",
        "genes     100 of 100 model genes (100%), matched by var_names (the best match)",
        f"depth     {report.counts:.4g} counts in the model genes (median); reference {report.reference_counts:.4g}",
        f"detected  {report.detected:.4g} model genes per cell (median); reference {report.reference_detected:.4g}",
        f"expected  accuracy {report.expected_accuracy.accuracy:.2f}, macro-F1 "
        f"{report.expected_accuracy.macro_f1:.2f}, on held-out cells of the reference with the genes and depth of the "
        "query",
        "no problems found",
    ]
    assert repr(report) == str(report)


def test_depth_of_the_reference(trained, query_adata):
    model = trained.adata[:, trained.encoder.genes].layers["counts"].toarray()
    report = scq.pp.check(query_adata, trained.reference)
    assert report.reference_counts == np.median(model.sum(axis=1))
    assert report.reference_detected == np.median((model > 0).sum(axis=1))


def test_a_path_gives_the_same_report(query_adata, reference, saved_reference):
    expected = scq.pp.check(query_adata, reference)
    assert scq.pp.check(query_adata, saved_reference) == expected
    assert scq.pp.check(query_adata, str(saved_reference)) == expected


def test_nothing_is_changed_and_no_warning_issued(query_adata, reference):
    few = query_adata[:, reference.encoder.genes[:20]].copy()
    values = few.X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scq.pp.check(few, reference)
    assert (values != few.X).nnz == 0
    assert list(few.obs) == ["cell_type", "batch"]
    assert len(few.obsm) == len(few.uns) == 0
    assert not [name for name in few.layers if name]


def test_few_genes_are_reported_not_refused(query_adata, reference):
    query_adata.var_names = [f"x{i}" for i in range(120)]
    report = scq.pp.check(query_adata, reference)
    assert report.genes["n_found"] == 0
    # Cells without counts are not reported as shallow too.
    (problem, empty) = report.problems
    first = reference.encoder.genes[0]
    assert problem.startswith(f"100 model genes are missing ('{first}', ")
    assert "the cells name genes as 'x0', 'x1', 'x2', 'x3', 'x4'. If the cells have no more genes" in problem
    assert empty.startswith("30 cell(s) have no counts in the model genes: 'cell0'")
    assert "problem   100 model genes are missing" in str(report)


def test_fewer_than_half_of_the_genes_are_a_problem(query_adata, reference):
    genes = reference.encoder.genes
    assert scq.pp.check(query_adata[:, genes[:50]], reference).problems == ()
    assert "51 model genes are missing" in scq.pp.check(query_adata[:, genes[:49]], reference).problems[0]


def test_repeated_names_of_genes_and_cells(query_adata, reference):
    first, second = reference.encoder.genes[:2]
    query_adata.var_names = [first if name == second else name for name in query_adata.var_names]
    query_adata.obs_names = ["same", *query_adata.obs_names[1:-1], "same"]
    report = scq.pp.check(query_adata, reference)
    assert report.genes["ambiguous"] == [first]
    assert report.problems == (
        f"1 model gene(s) occur more than once: '{first}'",
        "cell names repeat; call `adata.obs_names_make_unique()`",
    )


def test_cells_without_model_genes_are_named(query_adata, reference):
    query_adata.X = query_adata.X.toarray()
    # Counts only where the model does not look.
    query_adata.X[[3, 5]] = ~query_adata.var_names.isin(reference.encoder.genes)
    report = scq.pp.check(query_adata, reference)
    assert report.empty == ("cell3", "cell5")
    assert report.problems == ("2 cell(s) have no counts in the model genes: 'cell3', 'cell5'",)


def test_shallow_cells_are_a_problem(query_adata, reference):
    rng = np.random.default_rng(0)
    query_adata.X = rng.binomial(query_adata.X.toarray().astype(int), 0.1).astype(np.float32)
    report = scq.pp.check(query_adata, reference)
    ratio = report.reference_counts / report.counts
    assert 5 < ratio < 20
    assert report.problems == (f"the cells have {ratio:.1f} times fewer counts than those of the reference",)


def test_deep_cells_are_no_problem(query_adata, reference):
    # Protocols that count reads are deeper than those that count molecules.
    query_adata.X = query_adata.X * 6
    report = scq.pp.check(query_adata, reference)
    ratio = report.counts / report.reference_counts
    assert 4 < ratio < 9
    assert report.problems == ()
    assert f"depth     {report.counts:.4g} counts in the model genes" in str(report)


@pytest.mark.parametrize("layer", [None, "counts", "log"])
def test_the_matrix_that_is_read(query_adata, reference, layer):
    query_adata.layers["counts"] = query_adata.X.copy()
    query_adata.layers["log"] = query_adata.X.log1p()
    sc.pp.normalize_total(query_adata, target_sum=1e4)
    report = scq.pp.check(query_adata, reference, layer=layer)
    assert report.source == f'layers["{layer or "counts"}"]'
    assert report.input_state == ("log1p" if layer == "log" else "counts")


def test_a_stated_input_state_is_used(query_adata, reference):
    # Logged values that were rounded: nothing in them says so.
    query_adata.X = np.round(query_adata.X.toarray() ** 0.3)
    report = scq.pp.check(query_adata, reference, input_state="log1p")
    assert (report.input_state, report.reason) == ("log1p", "as stated")
    assert "depth     not comparable: values are log1p\n" in str(report)
    assert "on held-out cells of the reference with the genes of the query\n" in str(report)
    assert scq.pp.check(query_adata, reference).input_state == "counts"


def test_stored_zeros_are_not_detected_genes(query_adata, reference):
    expected = scq.pp.check(query_adata, reference)
    query_adata.X.data[::3] = 0
    stored = scq.pp.check(query_adata, reference)
    query_adata.X.eliminate_zeros()
    assert stored == scq.pp.check(query_adata, reference)
    assert stored.detected < expected.detected


def test_scaled_values_are_refused(query_adata, reference):
    query_adata.X = query_adata.X.toarray() - 3
    with pytest.raises(
        scq.InputStateError,
        match=r"`pp\.check` needs counts or log-normalised values\. Received a matrix that looks scaled: there are "
        r"negative values \(smallest -3\).*adata\.raw\.to_adata",
    ):
        scq.pp.check(query_adata, reference)


def test_no_reference_is_refused(query_adata, reference, tmp_path):
    with pytest.raises(scq.BundleError, match=re.escape(f"There is no reference at {tmp_path / 'no.scq'}")):
        scq.pp.check(query_adata, tmp_path / "no.scq")
    with pytest.raises(
        scq.ArgumentError, match=r"`pp\.check` needs a reference or the path of a saved one\. Received int"
    ):
        scq.pp.check(query_adata, 7)
    with pytest.raises(scq.ArgumentError, match=r"`pp\.check` takes an AnnData"):
        scq.pp.check(None, reference)


def test_plain_values(query_adata, reference):
    values = scq.pp.check(query_adata, reference).to_dict()
    assert values["problems"] == []
    assert values["empty"] == []
    assert values["n_obs"] == 30
    assert {type(value) for value in values.values()} <= {int, float, str, list, dict}


# The expected_accuracy.


def test_expected_accuracy_of_distinct_types_is_near_perfect(query_adata, reference):
    result = scq.pp.check(query_adata, reference).expected_accuracy
    truth = reference.label_codes[reference.cells.held_out & (reference.label_codes >= 0)]
    assert set(result.f1) == set(result.n_cells) == set(reference.types)
    assert [result.n_cells[name] for name in reference.types] == list(np.bincount(truth))
    assert result.accuracy > 0.95
    assert result.macro_f1 == pytest.approx(np.mean(list(result.f1.values())))


def test_expected_accuracy_uses_only_the_genes_of_the_query(query_adata, reference):
    genes = reference.encoder.genes
    # The genes that tell types apart least: nothing much is left to tell by.
    logged = np.log1p(query_adata[:, list(genes)].X.toarray())
    means = np.stack(
        [logged[(query_adata.obs["cell_type"] == kind).to_numpy()].mean(axis=0) for kind in reference.types]
    )
    flat = [*genes[np.argsort(means.std(axis=0))[:12]]]
    few = query_adata[:, flat].copy()
    report = scq.pp.check(few, reference)
    whole = scq.pp.check(query_adata, reference)
    assert report.genes["n_found"] == 12
    assert report.expected_accuracy.accuracy < 0.8 < whole.expected_accuracy.accuracy
    assert report.expected_accuracy.n_cells == whole.expected_accuracy.n_cells
    text = str(report)
    weakest = min(report.expected_accuracy.f1.items(), key=lambda item: (item[1], item[0]))
    assert (
        f"weak types  F1 of {weakest[0]} {weakest[1]:.2f} ({whole.expected_accuracy.n_cells[weakest[0]]} cells)" in text
    )
    assert "weak types" not in str(whole)


def test_expected_accuracy_uses_the_depth_of_the_query(query_adata, reference):
    rng = np.random.default_rng(0)
    query_adata.X = rng.binomial(query_adata.X.toarray().astype(int), 0.01).astype(np.float32)
    query_adata.X[query_adata.X.sum(axis=1) == 0, 0] = 1
    shallow = scq.pp.check(query_adata, reference)
    assert shallow.counts < 10
    assert shallow.expected_accuracy.accuracy < 0.9
    # What is not counts has no depth to go by.
    sc.pp.normalize_total(query_adata, target_sum=5)
    sc.pp.log1p(query_adata)
    logged = scq.pp.check(query_adata, reference, input_state="log1p")
    assert logged.expected_accuracy.accuracy > 0.95


def test_the_simulation_has_a_seed(query_adata, reference):
    rng = np.random.default_rng(0)
    query_adata.X = rng.binomial(query_adata.X.toarray().astype(int), 0.02).astype(np.float32)
    query_adata.X[query_adata.X.sum(axis=1) == 0, 0] = 1
    seeds = [scq.pp.check(query_adata, reference, random_state=i % 4).expected_accuracy for i in range(8)]
    assert seeds[:4] == seeds[4:]
    assert any(result != seeds[0] for result in seeds[1:4])


def test_simulation_can_be_turned_off(query_adata, reference):
    report = scq.pp.check(query_adata, reference, simulate=False)
    assert report.expected_accuracy is None
    assert "expected_accuracy" not in str(report)
    assert "expected_accuracy" not in report._repr_html_()
    assert report.to_dict()["expected_accuracy"] is None
    # All else is the same.
    other = scq.pp.check(query_adata, reference)
    assert dataclasses.replace(other, expected_accuracy=None) == report


def test_no_simulation_without_held_out_cells(query_adata, reference):
    query_adata.var_names = [f"x{i}" for i in range(120)]
    assert scq.pp.check(query_adata, reference).expected_accuracy is None


def test_wrong_arguments_are_refused(query_adata, reference):
    with pytest.raises(scq.ArgumentError, match=r"`simulate` must be True or False\. Received 'yes'"):
        scq.pp.check(query_adata, reference, simulate="yes")
    with pytest.raises(scq.ArgumentError, match=r"`random_state` must be an integer of at least 0\. Received -1"):
        scq.pp.check(query_adata, reference, random_state=-1)


# Names: which are missed, and whose they are.


def test_important_missing_genes_come_first(query_adata, reference):
    genes = reference.encoder.genes
    missing = set(genes[::2])
    report = scq.pp.check(query_adata[:, [name not in missing for name in query_adata.var_names]].copy(), reference)
    length = (reference.encoder.layers[0].kernel.astype(float) ** 2).sum(axis=1)
    expected = sorted(missing, key=lambda gene: -length[list(genes).index(gene)])[:20]
    assert list(report.important_missing) == expected
    shown = ", ".join(f"'{gene}'" for gene in expected[:5])
    assert f"missing   50 model genes, the most important: {shown}, ..." in str(report)


def test_gene_names_of_another_species_are_a_problem(query_adata, reference):
    # A few genes are written alike in both.
    shared = set(reference.encoder.genes[:5])
    query_adata.var_names = [name if name in shared else name.capitalize() for name in query_adata.var_names]
    report = scq.pp.check(query_adata, reference, gene_key="var_names")
    assert (report.species, report.reference_species) == ("mouse", "human")
    assert report.problems[1] == (
        "the gene names look like mouse genes, and the reference has human genes; pass `ignore_case=True`, or a table "
        "as `orthologs`"
    )
    # With either argument, the species is no problem.
    report = scq.pp.check(query_adata, reference, gene_key="var_names", ignore_case=True)
    assert report.genes["n_found"] == 100
    assert report.problems == ()
    table = {name: name.upper() for name in query_adata.var_names}
    assert scq.pp.check(query_adata, reference, gene_key="var_names", orthologs=table) == report


# In a notebook.


class Text(HTMLParser):
    """Collects the rows of a table, and which tags there are."""

    def __init__(self):
        super().__init__()
        self.rows, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.rows[-1][-1] += data


def read(report):
    parser = Text()
    parser.feed(report._repr_html_())
    assert parser.tags[0] == "table"
    assert set(parser.tags) == {"table", "tr", "th", "td"}
    return [tuple(row) for row in parser.rows]


def test_html_equals_the_text(query_adata, reference):
    report = scq.pp.check(query_adata, reference)
    assert read(report) == [*report.lines(), ("", "no problems found")]
    few = scq.pp.check(query_adata[:, reference.encoder.genes[:20]].copy(), reference)
    assert read(few) == [*few.lines(), *(("problem", problem) for problem in few.problems)]
    assert len(few.problems) == 1


def test_names_are_escaped_in_html(query_adata, reference):
    query_adata.obs_names = ["<script>alert('a & b')</script>", *query_adata.obs_names[1:]]
    query_adata.X = query_adata.X.toarray()
    query_adata.X[0] = 0
    report = scq.pp.check(query_adata, reference)
    html = report._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    # The parser finds no other tags, and the name as it is.
    assert "<script>alert('a & b')</script>" in read(report)[-1][1]
