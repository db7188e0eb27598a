"""``tl.embed``: the embedding of a cell is the same in all formats, scales and gene orders."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import anndata
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import scquery_ae as scq
from scquery_ae.tl import _saved_embedding

FORMATS = ["csr", "csc", "dense"]


@pytest.fixture
def encoder(make_adata, make_encoder):
    return make_encoder(make_adata(40, 25), (7, 4))


@pytest.fixture
def expected(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)
    return encoder.encode(adata.X)


def embedded(adata, encoder, **arguments):
    assert scq.tl.embed(adata, encoder, **arguments) is None
    return adata.obsm["X_scquery"]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", ["int32", "uint16", "float32", "float64"])
def test_the_embedding_is_written_and_nothing_else(make_adata, encoder, expected, fmt, dtype):
    adata = make_adata(20, 25, fmt=fmt, dtype=dtype, seed=5)
    values = adata.X.copy()
    latent = embedded(adata, encoder)
    assert latent.dtype == np.float32
    assert latent.shape == (20, 4)
    np.testing.assert_allclose(np.linalg.norm(latent, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(latent, expected, atol=1e-5)
    np.testing.assert_array_equal(*(m.toarray() if sparse.issparse(m) else m for m in (adata.X, values)))
    assert (list(adata.obsm), [name for name in adata.layers if name], list(adata.uns)) == (["X_scquery"], [], [])


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_backed_file(make_adata, encoder, expected, fmt, tmp_path):
    make_adata(20, 25, fmt=fmt, seed=5).write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert backed.isbacked
    np.testing.assert_allclose(embedded(backed, encoder), expected, atol=1e-5)
    backed.file.close()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_backed_file_in_shuffled_gene_order_and_in_chunks(make_adata, encoder, expected, fmt, tmp_path, monkeypatch):
    from scquery_ae.loaders import GeneColumns

    monkeypatch.setattr(GeneColumns.chunks, "__defaults__", (6,))
    order = np.random.default_rng(0).permutation(25)
    make_adata(20, 25, fmt=fmt, seed=5)[:, order].copy().write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_allclose(embedded(backed, encoder), expected, atol=1e-5)
    backed.file.close()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_view(make_adata, encoder, expected, fmt):
    parent = make_adata(20, 25, fmt=fmt, seed=5)
    view = parent[5:15, ::-1]
    assert view.is_view
    np.testing.assert_allclose(embedded(view, encoder), expected[5:15], atol=1e-5)
    assert not view.is_view
    assert "X_scquery" not in parent.obsm


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array, np.asfortranarray])
def test_other_matrices(make_adata, encoder, expected, make):
    adata = make_adata(20, 25, seed=5)
    adata.X = make(adata.X.toarray())
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-5)


@pytest.mark.parametrize("target", [1e4, 1e6, None])
@pytest.mark.parametrize("fmt", FORMATS)
def test_counts_and_their_logarithm_agree(make_adata, encoder, expected, fmt, target):
    adata = make_adata(20, 25, fmt=fmt, seed=5)
    sc.pp.normalize_total(adata, target_sum=target)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-4)


def test_counts_per_million_are_read_as_counts(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    sc.pp.normalize_total(adata, target_sum=1e6)
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-4)


def test_a_given_input_state_is_used(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    counts = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(embedded(adata, encoder, input_state="log1p"), expected, atol=1e-4)
    taken_as_counts = encoder.encode(adata.X)
    np.testing.assert_allclose(embedded(adata, encoder, input_state="counts"), taken_as_counts, atol=1e-5)
    assert np.abs(taken_as_counts - expected).max() > 0.01
    assert (counts != make_adata(20, 25, seed=5).X).nnz == 0


def test_which_matrix_is_read(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    counts = adata.X.copy()
    adata.layers["other"] = counts[::-1].copy()
    adata.X = counts.log1p()
    # X; then the layer of counts, which is preferred; then the layer that is given.
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-4)
    adata.X = np.full(adata.shape, -1.0)
    adata.layers["counts"] = counts
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-5)
    np.testing.assert_allclose(embedded(adata, encoder, layer="other"), expected[::-1], atol=1e-5)
    with pytest.raises(
        scq.MissingKeyError, match=r"`layer='raw'` is not in `adata\.layers`\. Expected one of 'other', 'counts'"
    ):
        scq.tl.embed(adata, encoder, layer="raw")


def test_the_embedding_does_not_depend_on_the_other_cells(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    for i in (0, 7, 19):
        np.testing.assert_allclose(embedded(adata[i].copy(), encoder), expected[[i]], atol=1e-5)


def test_missing_genes_are_tolerated(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)
    present = np.arange(25) % 5 != 0
    expected = encoder.encode(np.where(present, adata.X.toarray(), 0), present)
    np.testing.assert_allclose(embedded(adata[:, present].copy(), encoder), expected, atol=1e-5)


def test_more_than_half_of_the_genes_missing_gives_a_warning(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)[:, :10].copy()
    with pytest.warns(
        scq.ScqueryWarning, match=r"The cells have only 10 of the 25 model genes \(40%\), so results are less certain"
    ):
        scq.tl.embed(adata, encoder)


def test_repeated_gene_names_give_a_warning_and_the_first_is_used(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    counts = sparse.csr_matrix(np.hstack([adata.X.toarray(), np.full((20, 1), 99)]))
    twice = anndata.AnnData(counts, obs=adata.obs, var=pd.DataFrame(index=[*adata.var_names, "again"]))
    twice.var_names = [*adata.var_names, "GENE3"]
    with pytest.warns(
        scq.ScqueryWarning, match=r"occur more than once among the cells; the first column is used: 'GENE3'"
    ):
        latent = embedded(twice, encoder)
    np.testing.assert_allclose(latent, expected, atol=1e-5)


def test_too_few_genes_are_refused(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)[:, :2].copy()
    adata.X = adata.X.toarray() + 1
    with pytest.raises(
        scq.GeneOverlapError, match=r"Only 2 of the 25 model genes are among the genes of the cells \(8\.0%"
    ):
        scq.tl.embed(adata, encoder)
    assert len(adata.obsm) == 0


def test_gene_names_in_a_column(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    adata.var["symbol"] = adata.var_names
    adata.var_names = [f"row{i}" for i in range(25)]
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-5)
    np.testing.assert_allclose(embedded(adata, encoder, gene_key="symbol"), expected, atol=1e-5)


def test_key_added(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    scq.tl.embed(adata, encoder, key_added="mine")
    assert list(adata.obsm) == ["X_mine"]


def test_more_cells_than_a_chunk(make_adata, encoder, expected, monkeypatch):
    from scquery_ae.loaders import GeneColumns

    monkeypatch.setattr(GeneColumns.chunks, "__defaults__", (7,))
    for fmt in FORMATS:
        np.testing.assert_allclose(embedded(make_adata(20, 25, fmt=fmt, seed=5), encoder), expected, atol=1e-5)


@pytest.mark.parametrize("fmt", FORMATS)
def test_scaled_and_unfinished_values_are_refused(make_adata, encoder, fmt):
    adata = make_adata(20, 25, fmt=fmt, seed=5)
    (adata.X.data if fmt != "dense" else adata.X[0])[0] = -0.5
    with pytest.raises(
        scq.InputStateError,
        match=r"`tl\.embed` needs counts or log-normalised values\. Received a matrix that looks scaled",
    ):
        scq.tl.embed(adata, encoder)
    (adata.X.data if fmt != "dense" else adata.X[0])[0] = np.nan
    with pytest.raises(
        scq.InputStateError, match=r"`tl\.embed` needs finite values\. Received 1 NaN or infinite value"
    ):
        scq.tl.embed(adata, encoder)
    assert len(adata.obsm) == 0


def test_wrong_arguments_are_refused(make_adata, encoder):
    adata = make_adata(20, 25, seed=5)
    with pytest.raises(
        scq.ArgumentError, match=r"`tl\.embed` needs an encoder, such as `scq\.tl\.pretrain` returns\. Received str"
    ):
        scq.tl.embed(adata, "pbmc.scq")
    with pytest.raises(
        scq.ArgumentError, match=r"`input_state` must be one of 'auto', 'counts', 'log1p', 'log2p1'\. Received 'raw'"
    ):
        scq.tl.embed(adata, encoder, input_state="raw")
    with pytest.raises(scq.ArgumentError, match=r"`min_gene_overlap` must be a number in \[0, 1\]\. Received 2"):
        scq.tl.embed(adata, encoder, min_gene_overlap=2)
    with pytest.raises(scq.ArgumentError, match=r"`tl\.embed` takes an AnnData"):
        scq.tl.embed(adata.X, encoder)


@pytest.mark.parametrize("target", [1e4, 1e6, None])
@pytest.mark.parametrize("fmt", FORMATS)
def test_counts_and_their_logarithm_to_base_2_agree(make_adata, encoder, expected, fmt, target):
    adata = make_adata(20, 25, fmt=fmt, seed=5)
    sc.pp.normalize_total(adata, target_sum=target)
    sc.pp.log1p(adata, base=2)
    np.testing.assert_allclose(embedded(adata, encoder), expected, atol=1e-4)
    np.testing.assert_allclose(embedded(adata, encoder, input_state="log2p1"), expected, atol=1e-4)
    # Read as natural logarithms, they give other embeddings.
    assert np.abs(embedded(adata, encoder, input_state="log1p") - expected).max() > 0.01


def test_gene_names_in_lower_case(make_adata, encoder, expected):
    adata = make_adata(20, 25, seed=5)
    adata.var_names = adata.var_names.str.lower()
    with pytest.raises(scq.GeneOverlapError, match="Only 0 of the 25 model genes"):
        scq.tl.embed(adata, encoder)
    np.testing.assert_allclose(embedded(adata, encoder, ignore_case=True), expected, atol=1e-5)
    table = {f"gene{i}": f"GENE{i}" for i in range(25)}
    np.testing.assert_allclose(embedded(adata, encoder, orthologs=table), expected, atol=1e-5)


@pytest.fixture
def calls(monkeypatch):
    """The number of cells in each call of the encoder, with chunks of six cells."""
    monkeypatch.setattr(_saved_embedding, "CHUNK", 6)
    sizes, encode = [], scq.Encoder.encode

    def counted(self, counts, present=None):
        sizes.append(counts.shape[0])
        return encode(self, counts, present)

    monkeypatch.setattr(scq.Encoder, "encode", counted)
    return sizes


def stopped_after(chunks, monkeypatch, error=KeyboardInterrupt):
    """Make the encoder stop before its next chunk."""
    encode, left = scq.Encoder.encode, iter(range(chunks))

    def stopping(self, counts, present=None):
        if next(left, None) is None:
            raise error
        return encode(self, counts, present)

    monkeypatch.setattr(scq.Encoder, "encode", stopping)


def interrupted(adata, encoder, folder, monkeypatch):
    """Embed two chunks and interrupt."""
    with monkeypatch.context() as patch:
        stopped_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            scq.tl.embed(adata, encoder, checkpoint=folder)


def in_form(adata, form, folder):
    """Return the cells in a format; Dask blocks have five rows."""
    if form == "backed":
        adata.write_h5ad(folder / "a.h5ad")
        return anndata.read_h5ad(folder / "a.h5ad", backed="r")
    if form == "dask":
        adata.X = da.from_array(adata.X.toarray(), chunks=(5, 25)).map_blocks(
            sparse.csr_matrix, meta=sparse.csr_matrix((0, 0), dtype=np.float32)
        )
    elif form != "csr":
        adata.X = {"csc": sparse.csc_matrix, "dense": np.asarray}[form](adata.X.toarray())
    return adata


@pytest.mark.parametrize("form", ["csr", "csc", "dense", "backed", "dask"])
@pytest.mark.parametrize("missing_genes", [False, True])
def test_an_interrupted_embedding_is_continued(make_adata, encoder, calls, monkeypatch, tmp_path, form, missing_genes):
    plain = make_adata(20, 25, seed=5)[:, :: -2 if missing_genes else -1].copy()
    adata = in_form(plain.copy(), form, tmp_path)
    sizes = [5, 5, 5, 5] if form == "dask" else [6, 6, 6, 2]
    whole = embedded(adata, encoder, key_added="scquery", checkpoint=tmp_path / "whole").copy()
    assert calls == sizes
    np.testing.assert_allclose(whole, embedded(plain, encoder), atol=1e-6)
    del adata.obsm["X_scquery"]

    interrupted(adata, encoder, tmp_path / "kept", monkeypatch)
    assert len(adata.obsm) == 0
    calls.clear()
    np.testing.assert_array_equal(embedded(adata, encoder, checkpoint=str(tmp_path / "kept")), whole)
    assert calls == sizes[2:]
    calls.clear()
    np.testing.assert_array_equal(embedded(adata, encoder, checkpoint=tmp_path / "kept"), whole)
    assert calls == []
    np.testing.assert_array_equal(np.load(tmp_path / "kept" / "embedding.npy"), whole)
    if form == "backed":
        adata.file.close()


def test_an_interruption_without_a_checkpoint_changes_nothing(make_adata, encoder, monkeypatch):
    adata = make_adata(20, 25, seed=5)
    stopped_after(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        scq.tl.embed(adata, encoder)
    assert len(adata.obsm) == 0


def test_blocks_of_another_size_continue_as_well(make_adata, encoder, expected, calls, monkeypatch, tmp_path):
    adata = make_adata(20, 25, seed=5)
    interrupted(adata, encoder, tmp_path, monkeypatch)
    calls.clear()
    adata = in_form(adata, "dask", tmp_path)
    np.testing.assert_allclose(embedded(adata, encoder, checkpoint=tmp_path), expected, atol=1e-5)
    assert calls == [3, 5]


KILLED = """
    import sys, time
    import anndata, numpy as np
    import scquery_ae as scq
    from scquery_ae.dense import DenseWeights
    from scquery_ae.tl import _saved_embedding
    from scquery_ae.transform import Transform

    def slow(encode):
        def wrapped(self, counts, present=None):
            time.sleep(0.01)
            return encode(self, counts, present)
        return wrapped

    arrays = np.load(sys.argv[1] + "/encoder.npz")
    genes = np.array([f"GENE{i}" for i in range(25)], dtype=object)
    transform = Transform(genes, float(arrays["target"]), arrays["mean"], arrays["fraction"])
    layers = (DenseWeights(arrays["k0"], arrays["b0"], "relu"), DenseWeights(arrays["k1"], arrays["b1"], "linear"))
    _saved_embedding.CHUNK = 1
    scq.Encoder.encode = slow(scq.Encoder.encode)
    adata = anndata.read_h5ad(sys.argv[1] + "/cells.h5ad")
    scq.tl.embed(adata, scq.Encoder(transform, layers), checkpoint=sys.argv[1] + "/kept")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal on Windows")
def test_an_embedding_of_a_killed_process_is_continued(make_adata, encoder, calls, monkeypatch, tmp_path):
    monkeypatch.setattr(_saved_embedding, "CHUNK", 1)
    adata = make_adata(300, 25, seed=5)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    transform, (first, second) = encoder.transform, encoder.layers
    np.savez(
        tmp_path / "encoder.npz",
        target=transform.target_sum,
        mean=transform.mean,
        fraction=transform.fraction,
        k0=first.kernel,
        b0=first.bias,
        k1=second.kernel,
        b1=second.bias,
    )
    record = tmp_path / "kept" / "embedding.json"

    def rows():
        return json.loads(record.read_text())["rows"] if record.exists() else 0

    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)])
    try:
        give_up = time.monotonic() + 60
        while rows() < 20 and child.poll() is None and time.monotonic() < give_up:
            time.sleep(0.005)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    done = rows()
    assert 20 <= done < 300
    kept = np.fromfile(tmp_path / "kept" / "embedding.npy", dtype="<f4", offset=128)
    expected = encoder.encode(adata.X)
    np.testing.assert_allclose(kept[: 4 * done].reshape(done, 4), expected[:done], atol=1e-6)

    whole = embedded(adata, encoder, checkpoint=tmp_path / "whole").copy()
    calls.clear()
    np.testing.assert_array_equal(embedded(adata, encoder, checkpoint=tmp_path / "kept"), whole)
    assert calls == [1] * (300 - done)


@pytest.mark.parametrize(
    "step", ["before the embeddings", "after the embeddings", "before the record", "at the first record"]
)
def test_the_record_never_counts_cells_that_are_not_stored(
    make_adata, encoder, expected, calls, monkeypatch, tmp_path, step
):
    adata = make_adata(20, 25, seed=5)
    turns = iter(range(100))

    def stop_at(turn, function):
        def wrapped(*args, **kwargs):
            if next(turns) == turn:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        if step == "before the embeddings":
            patch.setattr(Path, "touch", stop_at(2, Path.touch))
        elif step == "before the record":
            patch.setattr(Path, "replace", stop_at(3, Path.replace))
        else:
            # The first call is for the empty record.
            patch.setattr(os, "fsync", stop_at(5 if step == "after the embeddings" else 0, os.fsync))
        with pytest.raises(KeyboardInterrupt):
            scq.tl.embed(adata, encoder, checkpoint=tmp_path)
    record = tmp_path / "embedding.json"
    assert record.exists() == (step != "at the first record")
    done = 12 if record.exists() else 0
    if record.exists():
        assert json.loads(record.read_text())["rows"] == done
    calls.clear()
    np.testing.assert_allclose(embedded(adata, encoder, checkpoint=tmp_path), expected, atol=1e-5)
    assert sum(calls) == 20 - done


def changed(name, adata, encoder):
    """Return cells and an encoder with one change."""
    if name == "a count":
        counts = adata.X.toarray()
        counts[3, 3] += 1
        adata.X = sparse.csr_matrix(counts)
    elif name == "names of cells":
        adata.obs_names = [*adata.obs_names[:-1], "other"]
    elif name == "fewer cells":
        adata = adata[:19].copy()
    elif name == "a gene that is zero is missing":
        adata = adata[:, 1:].copy()
    elif name == "a weight":
        first, second = encoder.layers
        bias = second.bias.copy()
        bias[0] += 1e-6
        encoder = scq.Encoder(encoder.transform, (first, type(second)(second.kernel, bias, second.activation)))
    else:
        first, second = encoder.layers
        encoder = scq.Encoder(encoder.transform, (type(first)(first.kernel, first.bias, "tanh"), second))
    return adata, encoder


@pytest.mark.parametrize(
    "name",
    ["a count", "names of cells", "fewer cells", "a gene that is zero is missing", "a weight", "an activation"],
)
def test_a_checkpoint_of_another_run_is_refused(make_adata, encoder, tmp_path, name):
    adata = make_adata(20, 25, seed=5)
    counts = adata.X.toarray()
    counts[:, 0] = 0
    adata.X = sparse.csr_matrix(counts)
    scq.tl.embed(adata, encoder, checkpoint=tmp_path)
    other, encoder = changed(name, make_like(adata), encoder)
    with pytest.raises(
        scq.ArgumentError,
        match=r"`checkpoint` holds another run: .*embedding\.npy was computed with another encoder, or from other",
    ):
        scq.tl.embed(other, encoder, checkpoint=tmp_path)
    assert len(other.obsm) == 0


def make_like(adata):
    return anndata.AnnData(adata.X.copy(), obs=adata.obs.copy(), var=adata.var.copy())


def test_a_damaged_or_foreign_checkpoint_is_refused(make_adata, encoder, tmp_path):
    adata = make_adata(20, 25, seed=5)

    def refused(match, checkpoint=tmp_path):
        with pytest.raises(scq.ArgumentError, match=match):
            scq.tl.embed(adata, encoder, checkpoint=checkpoint)
        assert len(adata.obsm) == 0

    refused(r"`checkpoint` must be a path: text or a `pathlib\.Path`.*Received 3", 3)
    (tmp_path / "file").touch()
    refused(r"`checkpoint` must be the path of a folder\. Received .*file, which is a file", tmp_path / "file")
    np.save(tmp_path / "embedding.npy", np.arange(3))
    refused(r"`checkpoint` must be a new folder, or one that `scq\.tl\.embed` wrote\. Received .*embedding\.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "embedding.npy"), np.arange(3))

    kept = tmp_path / "kept"
    scq.tl.embed(adata, encoder, checkpoint=kept)
    adata = make_like(adata)
    true = (kept / "embedding.json").read_text()
    for text in ("", "[1]", "{}", '{"rows": "many", "fingerprint": ""}'):
        (kept / "embedding.json").write_text(text)
        refused(r"`checkpoint` is damaged: .*embedding\.json cannot be read \(.*\)\. Delete the folder", kept)
    (kept / "embedding.json").write_text(true)
    content = (kept / "embedding.npy").read_bytes()
    (kept / "embedding.npy").write_bytes(content[:-1])
    refused(r"`checkpoint` is damaged: .*embedding\.npy does not hold the 20 cells in embedding\.json\. Delete", kept)
    (kept / "embedding.npy").unlink()
    refused(r"`checkpoint` is damaged: .*embedding\.npy does not hold the 20 cells", kept)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the length of files")
def test_a_full_disk_keeps_finished_cells(make_adata, encoder, expected, calls, tmp_path):
    import resource

    adata = make_adata(20, 25, seed=5)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for the header and two chunks and a half, and for the record.
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 15 * 16, limit[1]))
    try:
        with pytest.raises(
            scq.StorageError,
            match=r"The embedding could not be written to the folder .*: .*File too large.* 12 cells are saved",
        ):
            scq.tl.embed(adata, encoder, checkpoint=tmp_path / "new" / "kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert len(adata.obsm) == 0
    calls.clear()
    np.testing.assert_allclose(embedded(adata, encoder, checkpoint=tmp_path / "new" / "kept"), expected, atol=1e-5)
    assert calls == [6, 2]


def test_a_folder_that_cannot_be_made_is_reported(make_adata, encoder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        scq.StorageError, match=r"The embedding could not be written to the folder .* 0 cells are saved"
    ):
        scq.tl.embed(make_adata(20, 25, seed=5), encoder, checkpoint=tmp_path / "file" / "kept")
