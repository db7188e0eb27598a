"""Matching of gene names, and what it means for embeddings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from scquery_ae import GeneOverlapError
from scquery_ae.genes import likely_species, match_genes, require_overlap
from scquery_ae.loaders import GeneColumns

GENES = [f"G{i}" for i in range(20)]


def test_equal_names_match():
    match = match_genes(["B", "A", "C"], {"var_names": ["A", "X", "B"]})
    np.testing.assert_array_equal(match.columns, [2, 0, -1])
    assert match.columns.dtype == np.int64
    assert match.n_found == 2
    assert match.fraction == pytest.approx(2 / 3)
    assert list(match.missing) == ["C"]
    assert match.key == "var_names"
    assert match.ambiguous == ()


def test_case_matters():
    match = match_genes(["CD3D", "CD8A"], {"var_names": ["Cd3d", "CD8A"]})
    np.testing.assert_array_equal(match.columns, [-1, 1])


@pytest.mark.parametrize(
    ("model", "query", "found"),
    [
        ("ENSG00000141510", "ENSG00000141510.16", True),
        ("ENSG00000141510.11", "ENSG00000141510.16", True),
        ("ENSMUSG00000059552.8", "ENSMUSG00000059552", True),
        ("ENSG00000141510.16", "ENSG00000141511.16", False),
        # Symbols with a point are no versions: RP11-34P13.7 and RP11-34P13.8 are two genes.
        ("RP11-34P13.7", "RP11-34P13.8", False),
        ("RP11-34P13.7", "RP11-34P13", False),
        # Nor is a transcript's id a gene's.
        ("ENST00000269305.9", "ENST00000269305.4", False),
    ],
)
def test_ensembl_versions_are_dropped_on_both_sides(model, query, found):
    assert match_genes([model], {"var_names": ["other", query]}).columns[0] == (1 if found else -1)


def test_the_best_matching_column_is_used():
    candidates = {
        "var_names": ["a", "b", "c", "G3"],
        "symbol": ["G0", "G1", "x", "G3"],
        "feature_id": ["G0", "y", "z", "w"],
    }
    match = match_genes(["G3", "G1", "G0", "G2"], candidates)
    assert match.key == "symbol"
    np.testing.assert_array_equal(match.columns, [3, 1, 0, -1])
    assert match.examples == ("G0", "G1", "x", "G3")


def test_ties_between_columns_take_the_first():
    assert match_genes(["A"], {"var_names": ["A"], "symbol": ["A"]}).key == "var_names"


def test_repeated_names_are_ambiguous():
    match = match_genes(["A", "B", "C"], {"var_names": ["C", "A", "B", "A", "D", "D"]})
    np.testing.assert_array_equal(match.columns, [1, 2, 0])
    # D is repeated too, but the model does not ask for it.
    assert match.ambiguous == ("A",)
    assert "more than once among the cells (first column used): 'A'" in str(match)


def test_two_versions_of_one_id_are_ambiguous():
    match = match_genes(["ENSG00000000001"], {"var_names": ["ENSG00000000001.1", "ENSG00000000001.2"]})
    assert match.columns[0] == 0
    assert match.ambiguous == ("ENSG00000000001",)


def test_the_match_as_text_and_as_plain_values():
    match = match_genes(["A", "B", "C", "D"], {"var_names": ["D", "A", "A"]})
    assert str(match).startswith("2 of 4 model genes found (50%), matched by var_names; missing: 'B', 'C'")
    assert match.to_dict() == {
        "n_genes": 4,
        "n_found": 2,
        "key": "var_names",
        "guessed": False,
        "missing": ["B", "C"],
        "ambiguous": ["A"],
    }


def test_guessed_means_several_keys():
    assert not match_genes(["A"], {"symbol": ["A"]}).guessed
    assert match_genes(["A"], {"var_names": ["A"], "symbol": ["B"]}).guessed


def test_case_can_be_ignored():
    names = ["Cd3d", "CD8A", "cd3D", "Ins1"]
    match = match_genes(["CD3D", "Cd8a", "INS"], {"var_names": names}, ignore_case=True)
    np.testing.assert_array_equal(match.columns, [0, 1, -1])
    # Names that differ in case alone have become one.
    assert match.ambiguous == ("CD3D",)
    # The model's own names are given back.
    assert list(match.genes) == ["CD3D", "Cd8a", "INS"]


def test_ensembl_versions_are_dropped_whatever_the_case():
    match = match_genes(["ENSG00000141510.1"], {"var_names": ["ENSG00000141510.16"]}, ignore_case=True)
    assert match.columns[0] == 0


def test_orthologs_rename_genes():
    table = {"Ins2": "INS", "H2-K1": "HLA-A", "Gone": "GCG"}
    match = match_genes(["INS", "HLA-A", "GCG", "PPY"], {"var_names": ["H2-K1", "Ins2", "PPY"]}, orthologs=table)
    # Genes outside the table keep their names.
    np.testing.assert_array_equal(match.columns, [1, 0, -1, 2])
    assert match.examples == ("H2-K1", "Ins2", "PPY")
    np.testing.assert_array_equal(
        match_genes(["INS"], {"var_names": ["INS2"]}, orthologs=table, ignore_case=True).columns, [0]
    )
    assert match_genes(["INS"], {"var_names": ["INS2"]}, orthologs=table).n_found == 0


def test_orthologs_by_ensembl_id_of_any_version():
    table = {"ENSMUSG00000000215": "ENSG00000129965.15"}
    match = match_genes(["ENSG00000129965"], {"var_names": ["ENSMUSG00000000215.12"]}, orthologs=table)
    assert match.columns[0] == 0


def test_two_genes_with_one_ortholog_are_ambiguous():
    match = match_genes(["INS"], {"var_names": ["Ins1", "Ins2"]}, orthologs={"Ins1": "INS", "Ins2": "INS"})
    assert match.columns[0] == 0
    assert match.ambiguous == ("INS",)


def test_the_sample_of_names_is_spread():
    names = [f"G{i}" for i in range(5000)]
    sample = match_genes(["G7"], {"var_names": names}).sample
    assert sample[0] == "G0"
    assert 400 < len(sample) < 600
    assert int(sample[-1][1:]) > 4900
    assert match_genes(["A"], {"var_names": ["A", "B"]}).sample == ("A", "B")


@pytest.mark.parametrize(
    ("names", "species"),
    [
        (["ENSG00000141510.16", "ENSG00000254647"], "human"),
        (["ENSMUSG00000059552", "ENSMUSG00000000215.8"], "mouse"),
        (["GAPDH", "INS", "HLA-A", "C9orf72", "MIR21", "A1BG"], "human"),
        (["Gapdh", "Ins2", "H2-K1", "Cd8a", "mt-Nd1", "Gcg", "Ppy", "Sst", "Pyy"], "mouse"),
        # Half and half, numbers, nothing, and a kind of neither.
        (["GAPDH", "Gapdh"], ""),
        (["1", "2007", "12_x"], ""),
        ([], ""),
        (["gapdh", "insl5a"], ""),
    ],
)
def test_species_from_gene_names(names, species):
    assert likely_species(names) == species


@pytest.mark.parametrize("prefix", ["ENSDARG", "ENSRNOG", "ENSSSCG"])
def test_ids_of_other_species_are_undecided(prefix):
    assert likely_species([f"{prefix}{i:011d}" for i in range(10)]) == ""


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "species"),
    [
        ("pancreas_baron_human1", "human"),
        ("pbmc_kang_ctrl_8donor", "human"),
        ("paul15_mouse_bm", "mouse"),
        ("mouse_endocrinogenesis_e15_supercell", "mouse"),
    ],
)
def test_species_of_real_files(shared_data, name, species):
    import anndata

    backed = anndata.read_h5ad(shared_data / f"{name}.h5ad", backed="r")
    names = list(backed.var_names)
    backed.file.close()
    assert likely_species(match_genes(["A"], {"var_names": names}).sample) == species


def test_no_names_to_match_is_refused():
    with pytest.raises(GeneOverlapError, match="no gene names to match: `candidates` is empty"):
        match_genes(["A"], {})


def test_too_small_an_overlap_is_refused():
    match = match_genes(GENES, {"var_names": ["ENSG00000000001", "G4"]})
    with pytest.raises(
        GeneOverlapError,
        match=(
            r"Only 1 of the 20 model genes are among the genes of the cells \(5\.0%; `min_gene_overlap=0\.1` is "
            r"needed\)\. "
            r"Received names such as 'ENSG00000000001', 'G4' \(var_names, the best match\); "
            r"expected gene symbols such as 'G0'.*name it with `gene_key`; `scq\.pp\.check` shows what matches"
        ),
    ):
        require_overlap(match, 0.1)


def test_the_error_names_ensembl_ids():
    match = match_genes([f"ENSG{i:011d}" for i in range(3)], {"var_names": ["TP53"]})
    with pytest.raises(GeneOverlapError, match=r"expected Ensembl ids such as 'ENSG00000000000'"):
        require_overlap(match, 0.1)


@pytest.mark.parametrize(("n_found", "minimum"), [(2, 0.1), (20, 1.0), (0, 0.0)])
def test_an_overlap_of_exactly_the_minimum_is_enough(n_found, minimum):
    require_overlap(match_genes(GENES, {"var_names": [*GENES[:n_found], "other"]}), minimum)


@given(order=st.permutations(GENES), n_kept=st.integers(1, 20), n_extra=st.integers(0, 5), seed=st.integers(0, 99))
def test_any_gene_order_is_aligned_to_the_model(order, n_kept, n_extra, seed):
    rng = np.random.default_rng(seed)
    names = [*order[:n_kept], *(f"extra{i}" for i in range(n_extra))]
    names = [names[i] for i in rng.permutation(len(names))]
    values = {name: float(1 + i) for i, name in enumerate(GENES)}
    row = np.array([[values.get(name, 99.0) for name in names]])
    match = match_genes(GENES, {"var_names": names})
    expected = np.array([[values[name] if name in order[:n_kept] else 0.0 for name in GENES]])
    for matrix in (row, sparse.csr_matrix(row), sparse.csc_matrix(row)):
        np.testing.assert_array_equal(GeneColumns(matrix, match.columns).load().toarray(), expected)


@given(seed=st.integers(0, 999), n_extra=st.integers(0, 10), fmt=st.sampled_from(["csr", "csc", "dense"]))
def test_an_embedding_does_not_depend_on_gene_order_or_extra_genes(make_adata, make_encoder, seed, n_extra, fmt):
    adata = make_adata(8, 20, seed=3)
    encoder = make_encoder(adata)
    expected = encoder.encode(adata.X)
    rng = np.random.default_rng(seed)
    counts = np.hstack([adata.X.toarray(), rng.poisson(50, (8, n_extra)).astype(np.float32)])
    names = np.array([*adata.var_names, *(f"extra{i}" for i in range(n_extra))])
    order = rng.permutation(len(names))
    shuffled = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[fmt](counts[:, order])
    match = match_genes(encoder.genes, {"var_names": names[order]})
    received = encoder.embed(GeneColumns(shuffled, match.columns))
    # The order of the genes is that of a float32 sum.
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5)
