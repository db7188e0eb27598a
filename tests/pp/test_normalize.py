"""``pp.normalize``: equal to scanpy by hand, and all or nothing."""

import re
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import scquery_ae as scq
from scquery_ae.transform import Transform

FORMATS = ["csr", "csc", "dense"]


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def by_hand(counts, target_sum=None):
    counts = dense(counts).astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    return np.log1p(counts / totals * (np.median(totals) if target_sum is None else target_sum))


def snapshot(adata):
    """Everything that a user could see of an AnnData, as bytes and plain values."""

    def frozen(value):
        if sparse.issparse(value):
            return value.format, value.dtype.str, value.data.tobytes(), value.indices.tobytes(), value.indptr.tobytes()
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, dict):
            return {key: frozen(item) for key, item in value.items()}
        return repr(value)

    return {
        "X": frozen(adata.X),
        "layers": {key: frozen(value) for key, value in adata.layers.items()},
        "obs": (adata.obs.copy(), list(adata.obs.columns)),
        "var": (adata.var.copy(), list(adata.var.columns)),
        "uns": frozen(dict(adata.uns)),
        "obsm": sorted(adata.obsm),
        "shape": adata.shape,
        "is_view": adata.is_view,
    }


def assert_untouched(adata, before):
    after = snapshot(adata)
    for frame in ("obs", "var"):
        pd.testing.assert_frame_equal(after.pop(frame)[0], before[frame][0])
    assert after == {key: value for key, value in before.items() if key not in ("obs", "var")}


def refused(adata, error, match, **arguments):
    before = snapshot(adata)
    with pytest.raises(error, match=match):
        scq.pp.normalize(adata, **arguments)
    assert_untouched(adata, before)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", ["int32", "uint16", "float32", "float64"])
def test_values_equal_scanpys_and_numpys(make_adata, fmt, dtype):
    adata = make_adata(fmt=fmt, dtype=dtype)
    expected = make_adata(fmt=fmt, dtype="float32")
    sc.pp.normalize_total(expected)
    sc.pp.log1p(expected)
    counts = adata.X
    assert scq.pp.normalize(adata, n_top_genes=15) is None
    np.testing.assert_array_equal(dense(adata.X), dense(expected.X))
    np.testing.assert_allclose(dense(adata.X), by_hand(counts), rtol=1e-5)
    assert adata.X.dtype == np.float32
    assert sparse.issparse(adata.X) == (fmt != "dense")
    # The counts are the very object that was in X, neither copied nor converted.
    assert adata.layers["counts"] is counts
    np.testing.assert_array_equal(dense(counts), dense(make_adata(fmt=fmt, dtype=dtype).X))
    assert counts.dtype == dtype
    assert adata.uns["log1p"] == {"base": None}


def test_all_formats_give_the_same_result(make_adata):
    results = []
    for fmt in FORMATS:
        adata = make_adata(fmt=fmt)
        scq.pp.normalize(adata, n_top_genes=15, batch_key="batch")
        results.append(adata)
    first = results[0]
    for other in results[1:]:
        np.testing.assert_allclose(dense(other.X), dense(first.X), rtol=1e-6)
        assert list(other.var["highly_variable"]) == list(first.var["highly_variable"])
        for name in ("mean", "fraction"):
            np.testing.assert_allclose(
                other.uns["scquery_transform"][name], first.uns["scquery_transform"][name], rtol=1e-5
            )


def test_target_sum(make_adata):
    adata = make_adata()
    counts = adata.X.copy()
    scq.pp.normalize(adata, target_sum=1e4)
    np.testing.assert_allclose(dense(adata.X), by_hand(counts, 1e4), rtol=1e-5)


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_variable_genes_are_scanpys(make_adata, batch_key):
    adata = make_adata(90, 60)
    expected = adata.copy()
    sc.pp.normalize_total(expected)
    sc.pp.log1p(expected)
    sc.pp.highly_variable_genes(expected, n_top_genes=20, batch_key=batch_key)
    scq.pp.normalize(adata, n_top_genes=20, batch_key=batch_key)
    pd.testing.assert_frame_equal(adata.var[expected.var.columns], expected.var)
    assert adata.var["highly_variable"].sum() == 20
    assert list(adata.uns["scquery_transform"]["genes"]) == list(expected.var_names[expected.var["highly_variable"]])


def test_batches_change_the_choice(make_adata):
    # Otherwise the test above could not tell whether batch_key is passed on.
    chosen = []
    for batch_key in (None, "batch"):
        adata = make_adata(90, 60)
        adata.X[(adata.obs["batch"] == "batch 1").to_numpy().nonzero()[0][:, None], np.arange(30)] *= 9
        scq.pp.normalize(adata, n_top_genes=20, batch_key=batch_key)
        chosen.append(list(adata.var["highly_variable"]))
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize("n_top_genes", [40, 41, 2000])
def test_all_genes_are_chosen_if_there_are_no_more(make_adata, n_top_genes):
    adata = make_adata(60, 40)
    scq.pp.normalize(adata, n_top_genes=n_top_genes, batch_key="batch")
    assert adata.var["highly_variable"].dtype == bool
    assert adata.var["highly_variable"].all()
    assert list(adata.uns["scquery_transform"]["genes"]) == list(adata.var_names)


def test_the_transform_is_fitted_on_the_counts_of_the_variable_genes(make_adata):
    adata = make_adata()
    counts = dense(adata.X).astype(np.float64)
    scq.pp.normalize(adata, n_top_genes=15)
    model = counts[:, adata.var["highly_variable"].to_numpy()]
    total = model.sum(axis=1, keepdims=True)
    transform = Transform.from_dict(adata.uns["scquery_transform"])
    assert transform.target_sum == pytest.approx(np.median(total))
    np.testing.assert_allclose(transform.fraction, (model / total).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(transform.mean, np.log1p(model / total * np.median(total)).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("fmt", FORMATS)
def test_copy_leaves_the_input_unchanged(make_adata, fmt):
    adata = make_adata(fmt=fmt)
    adata.layers["other"] = adata.X * 2
    adata.uns["kept"] = {"a": np.arange(3)}
    before = snapshot(adata)
    changed = scq.pp.normalize(adata, n_top_genes=15, batch_key="batch", copy=True)
    assert_untouched(adata, before)
    in_place = make_adata(fmt=fmt)
    scq.pp.normalize(in_place, n_top_genes=15, batch_key="batch")
    np.testing.assert_array_equal(dense(changed.X), dense(in_place.X))
    np.testing.assert_array_equal(dense(changed.layers["counts"]), dense(adata.X))
    assert [name for name in changed.layers if name] == ["other", "counts"]
    # What is changed afterwards in one is not changed in the other.
    counts = changed.layers["counts"]
    (counts.data if sparse.issparse(counts) else counts)[...] = 7
    assert_untouched(adata, before)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("copy", [False, True])
def test_a_view_works_and_its_parent_is_unchanged(make_adata, fmt, copy):
    parent = make_adata(fmt=fmt)
    before = snapshot(parent)
    view = parent[10:50, ::2]
    assert view.is_view
    result = scq.pp.normalize(view, n_top_genes=8, copy=copy)
    assert_untouched(parent, before)
    assert view.is_view == copy
    result = result if copy else view
    np.testing.assert_allclose(dense(result.X), by_hand(dense(parent.X)[10:50, ::2]), rtol=1e-5)
    np.testing.assert_array_equal(dense(result.layers["counts"]), dense(parent.X)[10:50, ::2])


def test_counts_from_a_layer(make_adata):
    adata = make_adata()
    expected = make_adata()
    scq.pp.normalize(expected, n_top_genes=15)
    counts = adata.X
    adata.layers["raw"] = counts
    adata.X = np.full(adata.shape, -1.0, dtype=np.float32)
    scq.pp.normalize(adata, n_top_genes=15, layer="raw")
    np.testing.assert_array_equal(dense(adata.X), dense(expected.X))
    assert adata.layers["counts"] is counts


def test_a_second_call_on_the_counts_layer_gives_the_same(make_adata):
    adata = make_adata()
    scq.pp.normalize(adata, n_top_genes=15)
    first = adata.copy()
    scq.pp.normalize(adata, n_top_genes=15, layer="counts")
    np.testing.assert_array_equal(dense(adata.X), dense(first.X))
    np.testing.assert_array_equal(dense(adata.layers["counts"]), dense(first.layers["counts"]))


def test_the_result_survives_a_file_and_can_be_trained_on(make_adata, tmp_path):
    adata = make_adata()
    scq.pp.normalize(adata, n_top_genes=15, batch_key="batch")
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(dense(back.X), dense(adata.X))
    np.testing.assert_array_equal(dense(back.layers["counts"]), dense(adata.layers["counts"]))
    encoders = [scq.tl.pretrain(a, layer_sizes=(4,), epochs=1, progress=False) for a in (adata, back)]
    np.testing.assert_array_equal(*(encoder.layers[0].kernel for encoder in encoders))
    assert list(encoders[1].genes) == list(adata.var_names[adata.var["highly_variable"]])


# Refusals: each with its message, and with the AnnData exactly as it was.


def test_log_normalised_values_are_refused(make_adata):
    adata = make_adata()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    del adata.uns["log1p"]
    refused(
        adata,
        scq.InputStateError,
        r"needs counts\. Received a matrix that looks already log-normalised: values are fractions up to .*"
        r"`layer`\)\. If there are none, invert the logarithm \(exp\(x\) - 1\) and pass `input_state='counts'`",
    )


def test_logarithms_to_base_2_are_refused(make_adata):
    adata = make_adata()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata, base=2)
    del adata.uns["log1p"]
    refused(
        adata,
        scq.InputStateError,
        r"looks already logged to base 2: .*\. If there are none, invert the logarithm \(2\^x - 1\) and pass",
    )


def test_values_of_an_unknown_kind_are_refused(make_adata):
    adata = make_adata()
    # Small fractions that are no logarithm of anything.
    adata.X = adata.X.multiply(0.37).tocsr()
    adata.X.data = np.minimum(adata.X.data, 20)
    refused(
        adata,
        scq.InputStateError,
        r"looks neither like counts nor like normalised counts: .*If there are none, pass `input_state",
    )
    scq.pp.normalize(adata, input_state="counts")


def test_a_second_call_on_x_is_refused(make_adata):
    adata = make_adata()
    scq.pp.normalize(adata)
    refused(adata, scq.InputStateError, "looks already log-normalised")


def test_uns_log1p_counts_even_if_values_are_whole(make_adata):
    adata = make_adata()
    adata.uns["log1p"] = {"base": None}
    refused(
        adata,
        scq.InputStateError,
        re.escape('`adata.uns["log1p"]` says that X is already logged; name the layer with the counts with `layer`'),
    )
    # The note is about X, not about a layer.
    adata.layers["raw"] = adata.X.copy()
    scq.pp.normalize(adata, layer="raw")


@pytest.mark.parametrize(("target", "shown"), [(1e6, "1e+06"), (2500, "2500")])
def test_normalised_values_are_refused(make_adata, target, shown):
    adata = make_adata(dtype="float64")
    sc.pp.normalize_total(adata, target_sum=target)
    refused(
        adata,
        scq.InputStateError,
        re.escape(
            f"looks already normalised: values are fractions and every cell sums to about {shown}. Use the raw counts"
        ),
    )


def test_stated_counts_are_accepted(make_adata):
    adata = make_adata(dtype="float64")
    sc.pp.normalize_total(adata, target_sum=1e6)
    values = adata.X.copy()
    scq.pp.normalize(adata, input_state="counts")
    np.testing.assert_allclose(dense(adata.X), by_hand(values), rtol=1e-5)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("input_state", ["auto", "counts"])
def test_scaled_values_are_refused(make_adata, fmt, input_state):
    adata = make_adata(fmt=fmt)
    (adata.X.data if fmt != "dense" else adata.X)[3] = -2.5
    refused(
        adata,
        scq.InputStateError,
        r"counts, which are never negative\. Received values down to -2\.5: the matrix looks scaled or corrected",
        input_state=input_state,
    )


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(make_adata, fmt, bad):
    adata = make_adata(fmt="dense")
    adata.X[2, 5] = adata.X[9, 7] = bad
    adata.X = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[fmt](adata.X)
    refused(adata, scq.InputStateError, r"Received 2 NaN or infinite value\(s\),? in genes such as 'GENE5', 'GENE7';")


@pytest.mark.parametrize(("shape", "what"), [((0, 5), "cells"), ((5, 0), "genes")])
def test_an_empty_anndata_is_refused(shape, what):
    refused(anndata.AnnData(np.zeros(shape, np.float32)), scq.ArgumentError, rf"Received shape .*: there are no {what}")


def test_repeated_gene_names_are_refused(make_adata):
    adata = make_adata()
    adata.var_names = [*adata.var_names[:-1], "GENE3"]
    refused(
        adata,
        scq.ArgumentError,
        r"`adata\.var_names` must be unique\. Received 1 repeated name\(s\) such as 'GENE3'; call `adata\.var",
    )


@pytest.mark.parametrize("fmt", FORMATS)
def test_cells_without_counts_are_named_or_dropped(make_adata, fmt):
    adata = make_adata(fmt="dense")
    adata.X[[4, 17]] = 0
    adata.X = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[fmt](adata.X)
    adata.obsm["X_other"] = np.arange(120.0).reshape(60, 2)
    refused(
        adata,
        scq.InputStateError,
        r"Received 2 of 60 cells without any, such as 'cell4', 'cell17'; pass `drop_empty=True`",
        n_top_genes=15,
    )
    kept = np.delete(np.arange(60), [4, 17])
    before, expected = snapshot(adata), by_hand(dense(adata.X)[kept])
    changed = scq.pp.normalize(adata, n_top_genes=15, batch_key="batch", drop_empty=True, copy=True)
    assert_untouched(adata, before)
    scq.pp.normalize(adata, n_top_genes=15, batch_key="batch", drop_empty=True)
    for result in (adata, changed):
        assert list(result.obs_names) == [f"cell{i}" for i in kept]
        np.testing.assert_allclose(dense(result.X), expected, rtol=1e-5)
        assert result.layers["counts"].shape == (58, 40)
        np.testing.assert_array_equal(result.obsm["X_other"][:, 0], 2.0 * kept)


def test_only_empty_cells_are_refused(make_adata):
    adata = make_adata()
    adata.X = sparse.csr_matrix(adata.shape, dtype=np.float32)
    refused(adata, scq.InputStateError, "Received 60 of 60 cells without any", drop_empty=True)


def test_missing_batches_are_refused(make_adata):
    adata = make_adata()
    adata.obs.iloc[[2, 8], adata.obs.columns.get_loc("batch")] = np.nan
    refused(
        adata,
        scq.MissingKeyError,
        r"`batch_key='batch'` must give a batch for every cell\. Received 2 missing value\(s\), in cells such "
        r"as 'cell2', 'cell8'; fill them",
        batch_key="batch",
    )


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            {"batch_key": "donor"},
            scq.MissingKeyError,
            r"`batch_key='donor'` is not a column of `adata\.obs`\. Expected one of",
        ),
        (
            {"layer": "raw"},
            scq.MissingKeyError,
            r"`layer='raw'` is not in `adata\.layers`\. Expected one of \(none there\)",
        ),
        ({"n_top_genes": 0}, scq.ArgumentError, "`n_top_genes` must be an integer of at least 1. Received 0"),
        ({"n_top_genes": 2.5}, scq.ArgumentError, "`n_top_genes` must be an integer of at least 1. Received 2.5"),
        ({"n_top_genes": None}, scq.ArgumentError, "`n_top_genes` must be an integer of at least 1. Received None"),
        ({"n_top_genes": True}, scq.ArgumentError, "`n_top_genes` must be an integer of at least 1. Received True"),
        ({"target_sum": 0}, scq.ArgumentError, r"`target_sum` must be a number in \(0, inf\)\. Received 0"),
        (
            {"target_sum": float("nan")},
            scq.ArgumentError,
            r"`target_sum` must be a number in \(0, inf\)\. Received nan",
        ),
        (
            {"input_state": "log1p"},
            scq.ArgumentError,
            "`input_state` must be one of 'auto', 'counts'. Received 'log1p'",
        ),
    ],
)
def test_wrong_arguments_are_refused(make_adata, arguments, error, match):
    refused(make_adata(), error, match, **arguments)


@pytest.mark.parametrize("value", [np.ones((3, 3)), pd.DataFrame({"a": [1]}), None])
def test_other_types_than_anndata_are_refused(value):
    with pytest.raises(scq.ArgumentError, match=r"`pp\.normalize` takes an AnnData as its first argument"):
        scq.pp.normalize(value)


def test_an_anndata_without_x_is_refused(make_adata):
    adata = make_adata()
    adata.X = None
    refused(adata, scq.MissingKeyError, r"`adata\.X` is empty")


def test_text_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = anndata.AnnData(np.array([["1", "2"], ["3", "4"]], dtype=object))
    refused(adata, scq.InputStateError, r"`pp\.normalize` needs numbers\. Received values of type object")


def test_a_backed_anndata_keeps_its_x(make_adata, tmp_path):
    """What else there is to cells out of memory is tested with the calls that follow, in ``tl``."""
    adata = make_adata()
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    scq.pp.normalize(backed, n_top_genes=20)
    np.testing.assert_array_equal(backed.X[:].toarray(), adata.X.toarray())
    scq.pp.normalize(adata, n_top_genes=20)
    assert list(backed.var["highly_variable"]) == list(adata.var["highly_variable"])
    received, expected = (Transform.from_dict(a.uns["scquery_transform"]) for a in (backed, adata))
    assert list(received.genes) == list(expected.genes)
    assert received.target_sum == expected.target_sum
    np.testing.assert_array_equal(received.mean, expected.mean)
    assert [name for name in backed.layers if name] == []
    assert "log1p" not in backed.uns
    backed.file.close()


def test_a_view_of_a_backed_anndata_is_refused(make_adata, tmp_path):
    make_adata().write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    with pytest.raises(scq.ArgumentError, match=r"`pp\.normalize` cannot write to a view of a backed AnnData"):
        scq.pp.normalize(backed[:30])
    backed.file.close()


# Batches as files have them.


@pytest.mark.parametrize("kind", ["integers", "booleans", "text"])
def test_batches_of_any_type_work(make_adata, kind):
    adata = make_adata(90, 60)
    expected = adata.copy()
    is_second = (adata.obs["batch"] == "batch 1").to_numpy()
    adata.obs["batch"] = {
        "integers": is_second.astype(int),
        "booleans": is_second,
        "text": adata.obs["batch"].astype(str),
    }[kind]
    column = adata.obs["batch"].copy()
    scq.pp.normalize(adata, n_top_genes=20, batch_key="batch")
    scq.pp.normalize(expected, n_top_genes=20, batch_key="batch")
    assert list(adata.var["highly_variable"]) == list(expected.var["highly_variable"])
    pd.testing.assert_series_equal(adata.obs["batch"], column)


def test_unused_batch_categories_do_not_matter(make_adata):
    adata, expected = make_adata(90, 60), make_adata(90, 60)
    adata.obs["batch"] = adata.obs["batch"].cat.add_categories("gone")
    scq.pp.normalize(adata, n_top_genes=20, batch_key="batch")
    scq.pp.normalize(expected, n_top_genes=20, batch_key="batch")
    assert list(adata.var["highly_variable"]) == list(expected.var["highly_variable"])
    assert "gone" in adata.obs["batch"].cat.categories


def test_a_batch_of_one_cell_does_not_count(make_adata):
    # One cell has no variance: ranking its genes would let chance choose.
    adata = make_adata(90, 60)
    others = adata[1:].copy()
    adata.obs["batch"] = pd.Categorical(["lonely", *["other"] * 89])
    scq.pp.normalize(adata, n_top_genes=20, batch_key="batch", target_sum=1000)
    scq.pp.normalize(others, n_top_genes=20, target_sum=1000)
    assert list(adata.var["highly_variable"]) == list(others.var["highly_variable"])


def test_one_cell_has_no_variable_genes(make_adata):
    adata = make_adata(60, 40)[:1].copy()
    refused(adata, (scq.ArgumentError, scq.InputStateError), "cell", n_top_genes=10)
    # All genes may be had of it.
    scq.pp.normalize(adata, n_top_genes=40)
    np.testing.assert_allclose(dense(adata.X), by_hand(adata.layers["counts"]), rtol=1e-5)


def test_sparse_arrays_work_like_sparse_matrices(make_adata):
    adata, expected = make_adata(), make_adata()
    adata.X = sparse.csr_array(adata.X)
    scq.pp.normalize(adata, n_top_genes=15)
    scq.pp.normalize(expected, n_top_genes=15)
    np.testing.assert_array_equal(dense(adata.X), dense(expected.X))
