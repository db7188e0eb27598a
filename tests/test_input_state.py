"""Telling counts, normalised, logged and scaled values apart; on made-up and on real data."""

import anndata
import numpy as np
import pytest
from scipy import sparse

import scquery_ae as sq
from scquery_ae import InputStateError
from scquery_ae.input_state import SAMPLE, check_expression, detect_state

#: What each real file holds, from its README. RPKM of the embryo data have unequal sums: a linear scale like counts.
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
    "yan_human_embryo": "counts",
}


def per_cell(matrix, target):
    matrix = sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
    factors = target / np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1e-9)
    matrix.data *= np.repeat(factors, np.diff(matrix.indptr)).astype(np.float32)
    return matrix


def scaled(matrix):
    dense = np.asarray(matrix[:300].todense(), dtype=np.float32)
    return (dense - dense.mean(axis=0)) / (dense.std(axis=0) + 1e-3)


@pytest.mark.realdata
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_files_and_their_transformed_copies(shared_data, name):
    backed = anndata.read_h5ad(shared_data / f"{name}.h5ad", backed="r")
    # Every third cell is plenty, and spread over the file like the sample itself.
    matrix = backed.X[:: max(1, backed.n_obs // 700)]
    assert detect_state(matrix).kind == REAL[name]
    backed.file.close()
    if REAL[name] == "log1p":
        back = matrix.copy()
        back.data = np.expm1(back.data)
        assert detect_state(back).kind in ("counts", "normalized")
        return
    cpm, medians = per_cell(matrix, 1e6), per_cell(matrix, float(np.median(np.asarray(matrix.sum(axis=1)))))
    assert detect_state(cpm).kind == "normalized"
    assert detect_state(cpm.log1p()).kind == "log1p"
    assert detect_state(medians).kind == "normalized"
    assert detect_state(medians.log1p()).kind == "log1p"
    assert detect_state(per_cell(matrix, 1e4).log1p()).kind == "log1p"
    # log1p of raw values, without scaling first, and log2, whose values are larger.
    assert detect_state(matrix.astype(np.float64).log1p()).kind == "log1p"
    assert detect_state(cpm.log1p() / np.float32(np.log(2))).kind == "log1p"
    assert detect_state(scaled(cpm.log1p())).kind == "scaled"


@pytest.mark.realdata
def test_every_real_file_is_covered(shared_data):
    assert sorted(file.stem for file in shared_data.glob("*.h5ad")) == sorted(REAL)


@pytest.mark.parametrize("fmt", ["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", ["int32", "uint16", "float32", "float64"])
def test_whole_numbers_are_counts(make_adata, fmt, dtype):
    state = detect_state(make_adata(50, 30, fmt=fmt, dtype=dtype).X)
    assert state.kind == "counts"
    assert "all values are whole numbers" in state.evidence


@pytest.mark.parametrize("fmt", ["csr", "csc", "dense"])
def test_made_up_states(make_adata, fmt):
    counts = make_adata(50, 30, fmt=fmt).X
    convert = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": lambda m: m.toarray()}[fmt]
    normalized = per_cell(counts, 1e4)
    fractional = sparse.csr_matrix(counts)
    fractional.data = fractional.data + np.float32(0.37) + 20
    assert detect_state(convert(normalized)).kind == "normalized"
    assert detect_state(convert(normalized.log1p())).kind == "log1p"
    assert detect_state(convert(fractional)).kind == "counts"
    assert detect_state(scaled(normalized.log1p())).kind == "scaled"


def test_hand_worked_evidence():
    assert detect_state(np.array([[1.0, -0.5]])).evidence == "there are negative values (least -0.5)"
    assert detect_state(np.array([[3.0, 0.0]])).evidence == "all values are whole numbers (largest 3)"
    assert detect_state(np.array([[3.5, 0.0]])).evidence == (
        "values are fractions and none is above 3.5; with the logarithm undone, sums of cells vary by 0%"
    )
    assert detect_state(np.zeros((2, 2))).evidence == "all sampled values are zero"
    assert "every cell sums to about 100" in detect_state(np.array([[99.5, 0.5], [40.25, 59.75]])).evidence
    assert "cells sum to 50 to 100" in detect_state(np.array([[99.5, 0.5], [40.25, 9.75]])).evidence


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


def test_infinities_of_both_signs_are_seen():
    with pytest.raises(InputStateError, match=r"2 NaN or infinite value\(s\),? in genes such as 'a', 'b'"):
        check_expression(np.array([[np.inf, -np.inf]]), ["a", "b"], "f")


def test_a_sum_that_overflows_is_not_taken_for_infinity():
    check_expression(np.full((2, 2), 1e308), ["a", "b"], "f")


def test_text_is_refused():
    with pytest.raises(
        InputStateError, match=r"`f` needs numbers\. Received values of type object; convert them to float32"
    ):
        check_expression(np.array([["1", "2"]], dtype=object), ["a", "b"], "f")


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_logged_values_are_certain_also_over_a_part_of_the_genes(make_adata, share):
    adata = make_adata(200, 400)
    counts = adata.X.toarray()
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    state = detect_state(logged[:, : int(share * 400)])
    assert (state.kind, state.certain) == ("log1p", True)


def test_small_fractional_counts_are_a_guess_and_said_to_be(make_adata, reference):
    query = make_adata(30, 120)
    query.X = query.X.multiply(0.37).tocsr()
    query.X.data = np.minimum(query.X.data, 20.0)
    assert not detect_state(query.X).certain
    with pytest.warns(sq.ScqueryWarning, match="takes the values for log-normalised, which is a guess"):
        sq.tl.query(query, reference)


def test_half_precision_is_refused(make_adata):
    with pytest.raises(sq.InputStateError, match="Received values of type float16; convert them to float32"):
        check_expression(make_adata(5, 8).X.toarray().astype(np.float16), [], "f")
