"""Detection of counts, normalised, logged and scaled values, in made-up and in real data."""

import anndata
import numpy as np
import pytest
from scipy import sparse

import scquery_ae as scq
from scquery_ae import InputStateError
from scquery_ae.input_state import SAMPLE, check_expression, detect_state

#: The kind of values of each real file, from its README. TPM and RPKM have similar sums.
REAL = {
    "pancreas_baron_human1": "counts",
    "pancreas_panc8_small_5study": "counts",
    "pancreas_baron_mouse": "counts",
    "pbmc_kang_ctrl_8donor": "counts",
    "pbmc_zheng_sorted_mudan": "counts",
    "pbmc_kang_stim_scgen_valid": "log1p",
    "celllines_scmixology_multiprotocol": "counts",
    "tabulamuris_actinn_1000": "counts",
    "paul15_mouse_bm": "counts",
    "mouse_endocrinogenesis_e15_supercell": "counts",
    "zeisel_mouse_3type_descend": "counts",
    "pollen_human": "normalized",
    "yan_human_embryo": "normalized",
    "pbmc_facs_ensembl_fasttopics": "counts",
    "headneck_puram_chetah": "log2p1",
    "lung_cosmx_profast": "counts",
    "lung_merfish_tessera": "counts",
}

#: Files without whole multiples: some protocols estimate counts, and TPM depend on the lengths of genes. With some
#: genes removed, sums differ too, and the base of a logarithm cannot be detected.
NO_MULTIPLES = ("pancreas_panc8_small_5study", "pollen_human", "headneck_puram_chetah")

#: What is detected for files whose base of the logarithm cannot be told: log2 of TPM, with half of the genes removed.
DETECTED = {"headneck_puram_chetah": ("log1p", False)}

LOGARITHMS = {"log1p": 1.0, "log2p1": float(np.log(2))}


def per_cell(matrix, target):
    matrix = sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
    factors = target / np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1e-9)
    matrix.data *= np.repeat(factors, np.diff(matrix.indptr)).astype(np.float32)
    return matrix


def logged(matrix, kind):
    """Return the logarithm of one plus the values, natural or to base 2."""
    return sparse.csr_matrix(matrix, dtype=np.float32).log1p() / np.float32(LOGARITHMS[kind])


def scaled(matrix):
    dense = np.asarray(matrix[:300].todense(), dtype=np.float32)
    return (dense - dense.mean(axis=0)) / (dense.std(axis=0) + 1e-3)


@pytest.fixture(scope="module")
def real(shared_data):
    """Read some cells of a file on a linear scale, each file once."""
    read = {}

    def get(name):
        if name not in read:
            backed = anndata.read_h5ad(shared_data / f"{name}.h5ad", backed="r")
            # Every third cell or so is plenty, and spread over the file like the sample itself.
            matrix = sparse.csr_matrix(backed.X[:: max(1, backed.n_obs // 500)])
            backed.file.close()
            received = detect_state(matrix)
            if REAL[name] in LOGARITHMS:
                matrix.data = np.expm1(matrix.data * LOGARITHMS[REAL[name]])
            read[name] = received, matrix
        return read[name]

    return get


@pytest.mark.realdata
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_files_as_they_are(real, name):
    state, _ = real(name)
    assert (state.kind, state.certain) == DETECTED.get(name, (REAL[name], True))


@pytest.mark.realdata
@pytest.mark.parametrize("name", sorted(REAL))
def test_transformed_copies_of_real_files(real, name):
    _, matrix = real(name)
    median = float(np.median(np.asarray(matrix.sum(axis=1))))
    for target in (1e6, 1e4, median):
        normalized = per_cell(matrix, target)
        assert detect_state(normalized).kind == "normalized", target
        for kind in LOGARITHMS:
            state = detect_state(logged(normalized, kind))
            assert (state.kind, state.certain) == (kind, True), (target, kind)
    assert detect_state(scaled(logged(per_cell(matrix, 1e6), "log1p"))).kind == "scaled"


@pytest.mark.realdata
@pytest.mark.parametrize("name", sorted(REAL))
def test_logarithms_of_raw_values(real, name):
    _, matrix = real(name)
    for kind in LOGARITHMS:
        state = detect_state(logged(matrix, kind))
        # Estimated counts of five studies: neither whole multiples nor equal sums.
        expected = ("unknown", False) if name == "pancreas_panc8_small_5study" else DETECTED.get(name, (kind, True))
        assert (state.kind, state.certain) == expected, kind


@pytest.mark.realdata
@pytest.mark.parametrize("fraction", [0.5, 0.1])
@pytest.mark.parametrize("name", sorted(REAL))
def test_part_of_the_genes_of_real_files(real, name, fraction):
    _, matrix = real(name)
    n = matrix.shape[1]
    genes = np.sort(np.random.default_rng(0).choice(n, int(fraction * n), replace=False))
    for target in (1e6, float(np.median(np.asarray(matrix.sum(axis=1))))):
        some = sparse.csr_matrix(per_cell(matrix, target)[:, genes])
        # Sums differ, so these may look like counts; both kinds are read as a linear scale. With fewer than 50 genes,
        # values can be as small as logarithms.
        linear = ("counts", "normalized") if len(genes) >= 50 else ("counts", "normalized", "unknown")
        assert detect_state(some).kind in linear
        for kind in LOGARITHMS:
            state = detect_state(logged(some, kind))
            if name in NO_MULTIPLES:
                assert not state.certain
                assert state.kind in ("log1p", "unknown")
            else:
                assert (state.kind, state.certain) == (kind, True), (target, kind)
    assert detect_state(matrix[:, genes]).kind in ("counts", "normalized")


@pytest.mark.realdata
def test_every_real_file_is_covered(shared_data):
    assert sorted(file.stem for file in shared_data.glob("*.h5ad")) == sorted(REAL)


@pytest.mark.parametrize("fmt", ["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", ["int32", "uint16", "float32", "float64"])
def test_whole_numbers_are_counts(make_adata, fmt, dtype):
    state = detect_state(make_adata(50, 30, fmt=fmt, dtype=dtype).X)
    assert state.kind == "counts"
    assert "all values are whole numbers" in state.reason


@pytest.mark.parametrize("fmt", ["csr", "csc", "dense"])
def test_states_of_made_up_matrices(make_adata, fmt):
    counts = make_adata(50, 30, fmt=fmt).X
    convert = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": lambda m: m.toarray()}[fmt]
    normalized = per_cell(counts, 1e4)
    fractional = sparse.csr_matrix(counts)
    # Depths differ by a third and more, as those of estimated counts do.
    fractional.data = (fractional.data + np.float32(0.37)) * 20
    fractional = sparse.diags(np.linspace(0.5, 2, 50)) @ fractional
    assert detect_state(convert(normalized)).kind == "normalized"
    for kind in LOGARITHMS:
        state = detect_state(convert(logged(normalized, kind)))
        assert (state.kind, state.certain) == (kind, True)
        # The same without equal sums, by whole multiples alone.
        state = detect_state(convert(logged(counts, kind)))
        assert (state.kind, state.certain) == (kind, True)
    assert detect_state(convert(fractional)).kind == "counts"
    assert detect_state(scaled(normalized.log1p())).kind == "scaled"


def test_hand_worked_reasons():
    assert detect_state(np.array([[1.0, -0.5]])).reason == "there are negative values (smallest -0.5)"
    assert detect_state(np.array([[3.0, 0.0]])).reason == "all values are whole numbers (largest 3)"
    assert detect_state(np.array([[3.5, 0.0]])).reason == (
        "values are fractions up to 3.5; inverted as natural logarithms, all cells have the same sum"
    )
    # Counts of 1 to 3, times a half in one cell and a third in the other.
    counts = np.array([[1.0, 2.0, 3.0], [1.0, 0.0, 2.0]]) * [[1 / 2], [1 / 3]]
    assert detect_state(np.log2(1 + counts)).reason == (
        "values are fractions up to 1.32; as logarithms to base 2, the values of a cell are whole multiples of its "
        "smallest"
    )
    assert detect_state(np.zeros((2, 2))).reason == "all sampled values are zero"
    assert "every cell sums to about 100" in detect_state(np.array([[99.5, 0.5], [40.25, 59.75]])).reason
    assert "cells sum to 50 to 100" in detect_state(np.array([[99.5, 0.5], [40.25, 9.75]])).reason
    # 90 and 110 vary by a tenth of their mean.
    alike = detect_state(np.array([[89.5, 0.5], [109.5, 0.5]]))
    assert (alike.kind, alike.certain) == ("normalized", True)
    assert alike.reason == "values are fractions up to 109.5, and sums of cells vary by 10% only, as with RPKM"


@pytest.mark.parametrize(("spread", "kind"), [(0.19, "normalized"), (0.21, "counts")])
def test_the_limit_for_similar_sums(spread, kind):
    # The coefficient of variation of 1 - s and 1 + s is s.
    sums = 100 * np.array([1 - spread, 1 + spread])
    assert detect_state(np.stack([sums - 0.25, [0.25, 0.25]], axis=1)).kind == kind


def test_an_undecided_base_is_uncertain_or_unknown():
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, 3.0, (100, 40))
    values /= values.sum(axis=1, keepdims=True)
    for spread, kind in ((0.3, "log1p"), (0.9, "unknown")):
        depth = np.where(np.arange(100) % 2, 1 - spread, 1 + spread)[:, None]
        state = detect_state(np.log1p(values * 500 * depth))
        assert (state.kind, state.certain) == (kind, False)
        assert f"sums of cells vary by {spread:.0%}" in state.reason


def test_stored_zeros_and_booleans_do_not_disturb():
    stored = sparse.csr_matrix((np.array([0.0, 2.0, 0.0]), [0, 1, 0], [0, 2, 3]), shape=(2, 2))
    assert detect_state(stored).kind == "counts"
    assert detect_state(np.array([[True, False], [True, True]])).kind == "counts"


def test_the_sample_reaches_both_ends_of_the_matrix():
    # Negative values in the last cell only, of far more cells than are looked at.
    matrix = np.ones((5 * SAMPLE, 2), dtype=np.float32)
    matrix[-1, 0] = -3
    assert detect_state(matrix).kind == "scaled"
    matrix[-1, 0], matrix[0, 1] = 1, -3
    assert detect_state(matrix).kind == "scaled"


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_gene(make, bad):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    values[1, 2] = values[2, 2] = bad
    with pytest.raises(
        InputStateError,
        match=r"`f` needs finite values\. Received 2 NaN or infinite value\(s\),? in genes such as 'c';",
    ):
        check_expression(make(values), np.array(["a", "b", "c", "d"]), "f")


def test_infinities_of_both_signs_are_refused():
    with pytest.raises(InputStateError, match=r"2 NaN or infinite value\(s\),? in genes such as 'a', 'b'"):
        check_expression(np.array([[np.inf, -np.inf]]), ["a", "b"], "f")


def test_values_that_overflow_when_summed_are_refused():
    with pytest.raises(InputStateError, match=r"`f` needs expression values up to 1e\+15\. Received .* to 1e\+308"):
        check_expression(np.full((2, 2), 1e308), ["a", "b"], "f")
    assert check_expression(np.full((2, 2), 1e15), ["a", "b"], "f") == (0, 1e15)


def test_text_is_refused():
    with pytest.raises(
        InputStateError, match=r"`f` needs numbers\. Received values of type object; convert them to float32"
    ):
        check_expression(np.array([["1", "2"]], dtype=object), ["a", "b"], "f")


@pytest.mark.parametrize("kind", sorted(LOGARITHMS))
@pytest.mark.parametrize("fraction", [1.0, 0.1])
def test_logged_values_are_certain_also_over_a_part_of_the_genes(make_adata, fraction, kind):
    adata = make_adata(200, 400)
    counts = adata.X.toarray()
    values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4) / LOGARITHMS[kind]
    state = detect_state(values[:, : int(fraction * 400)])
    assert (state.kind, state.certain) == (kind, True)


def unknown_values(query):
    """Make small fractions of the counts of a query that are of no kind."""
    query.X = query.X.multiply(0.37).tocsr()
    query.X.data = np.minimum(query.X.data, 20.0)
    return query


def test_an_unknown_kind_is_refused_unless_stated(make_adata, reference):
    query = unknown_values(make_adata(30, 120))
    assert (detect_state(query.X).kind, detect_state(query.X).certain) == ("unknown", False)
    for call in (scq.tl.query, scq.pp.check):
        with pytest.raises(
            InputStateError,
            match=r"cannot detect the kind of the values: values are fractions and none is above 20; with the "
            r"logarithm inverted, the sums of cells vary by \d+%\. .*Pass `input_state='counts'` \(for any linear",
        ):
            call(query, reference)
    assert len(query.obsm) == 0
    scq.tl.query(query, reference, input_state="counts")
    assert query.uns["scquery"]["parameters"]["input_state"] == "counts"


def test_a_guess_of_the_base_warns(make_adata, reference):
    query = make_adata(30, 120)
    rng = np.random.default_rng(0)
    depth = np.where(np.arange(30) % 2, 0.7, 1.3)[:, None]
    values = query.X.toarray() * rng.uniform(0.7, 1.3, query.shape)
    query.X = np.log1p(values / values.sum(axis=1, keepdims=True) * depth * 3000)
    assert not detect_state(query.X).certain
    with pytest.warns(
        scq.ScqueryWarning,
        match=r"`tl\.query` guesses that the values are log-normalised: .*the base of the logarithm is uncertain\. "
        r"Pass `input_state='counts'` \(for any linear scale\), 'log1p' or 'log2p1' if you know",
    ):
        scq.tl.query(query, reference)
    assert query.uns["scquery"]["parameters"]["input_state"] == "log1p"
    # No warning, which would be an error here, if the state is given.
    scq.tl.query(query, reference, input_state="log2p1")


def test_half_precision_is_refused(make_adata):
    with pytest.raises(scq.InputStateError, match="Received values of type float16; convert them to float32"):
        check_expression(make_adata(5, 8).X.toarray().astype(np.float16), [], "f")
