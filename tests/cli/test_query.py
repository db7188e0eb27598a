"""``scquery-ae query``: files as the Python call would give, a summary, and JSON."""

import json
import shutil

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scquery_ae as scq

RESULTS = ["label", "confidence", "pvalue", "unknown", "prediction_set"]


@pytest.fixture(scope="module")
def expected(query_file, saved_reference):
    """What ``tl.query`` makes of the same cells."""
    adata = anndata.read_h5ad(query_file)
    scq.tl.query(adata, saved_reference)
    return adata


def assert_same(found, expected):
    for name in RESULTS:
        column, other = found.obs[f"scquery_{name}"], expected.obs[f"scquery_{name}"]
        assert column.astype(str).tolist() == other.astype(str).tolist()
    for slot in ("X_scquery", "scquery_neighbors", "scquery_distances"):
        np.testing.assert_array_equal(found.obsm[slot], expected.obsm[slot])
    assert found.uns["scquery"]["reference"] == expected.uns["scquery"]["reference"]
    assert found.uns["scquery"]["parameters"]["input_state"] == expected.uns["scquery"]["parameters"]["input_state"]


def test_files_equal_the_result_of_the_call(run, query_file, saved_reference, expected, tmp_path):
    names = ("out.h5ad", "out.csv", "out.csv.gz", "out.parquet")
    outputs = [item for name in names for item in ("-o", tmp_path / name)]
    done = run("query", query_file, saved_reference, *outputs)
    assert (done.code, done.err) == (0, "")
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert_same(found, expected)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())

    reference = scq.Reference.load(saved_reference)
    nearest = expected.obsm["scquery_neighbors"][:, 0]
    for name in names[1:]:
        table = pd.read_parquet(tmp_path / name) if name.endswith("parquet") else pd.read_csv(tmp_path / name)
        assert table["cell"].tolist() == expected.obs_names.tolist()
        assert table["scquery_label"].astype(str).tolist() == expected.obs["scquery_label"].astype(str).tolist()
        np.testing.assert_allclose(table["scquery_confidence"], expected.obs["scquery_confidence"], rtol=1e-6)
        assert table["scquery_unknown"].tolist() == expected.obs["scquery_unknown"].tolist()
        assert table["scquery_nearest"].tolist() == reference.obs.index[nearest].tolist()
        labels = reference.obs["cell_type"].iloc[nearest].astype(object)
        assert table["scquery_nearest_label"].fillna("").tolist() == labels.fillna("").tolist()
        np.testing.assert_allclose(table["scquery_distance"], expected.obsm["scquery_distances"][:, 0], rtol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["mine.zarr", "v3.h5", "plain"])
def test_every_input_format_gives_the_same_result(run, formats, saved_reference, expected, tmp_path, name):
    done = run("query", formats[name], saved_reference, "-o", tmp_path / "out.h5ad")
    assert done.code == 0
    assert_same(anndata.read_h5ad(tmp_path / "out.h5ad"), expected)


@pytest.mark.parametrize("name", ["mine.h5ad", "mine.zarr"])
def test_lazy_cells_give_the_same_result(run, formats, saved_reference, expected, tmp_path, name):
    source = formats[name]
    if name == "mine.h5ad":  # what blocks do not read has to be there in the end
        source = tmp_path / "more.h5ad"
        adata = anndata.read_h5ad(formats[name])
        adata.raw, adata.obsm["X_pca"], adata.uns["title"] = adata.copy(), np.ones((30, 3)), "made up"
        adata.write_h5ad(source)
    done = run("query", source, saved_reference, "--lazy", "-o", tmp_path / "out.h5ad", "-o", tmp_path / "out.csv")
    assert done.code == 0, done.err
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    for column in ("label", "unknown", "prediction_set"):
        assert found.obs[f"scquery_{column}"].tolist() == expected.obs[f"scquery_{column}"].tolist()
    np.testing.assert_allclose(found.obsm["X_scquery"], expected.obsm["X_scquery"], atol=1e-6)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    if name == "mine.h5ad":
        np.testing.assert_array_equal(found.obsm["X_pca"], np.ones((30, 3)))
        assert found.uns["title"] == "made up"
        assert found.raw.shape == (30, 120)
        assert "scquery_label" not in h5py.File(source)["obs"]


def test_without_outputs_files_are_named_after_the_cells(run, formats, saved_reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(formats["plain"], tmp_path / "my.sample")
    assert run("query", "my.sample/", saved_reference).code == 0
    assert run("query", formats["mine.h5ad"], saved_reference).code == 0
    written = {"my.sample.scquery.h5ad", "my.sample.scquery.csv", "mine.scquery.h5ad", "mine.scquery.csv"}
    assert {p.name for p in tmp_path.iterdir()} == {"my.sample", *written}


def test_the_summary_counts_the_cells(run, query_file, saved_reference, expected, tmp_path):
    out = run("query", query_file, saved_reference, "-o", tmp_path / "out.csv").out
    labels, unknown = expected.obs["scquery_label"], expected.obs["scquery_unknown"]
    assert "30 cells, 100 of 100 model genes matched by var_names; queried 240 cells of small.scq" in out
    assert f"{int(unknown.sum())} of them ({unknown.mean():.1%}) unknown to the reference" in out
    for kind, n in labels.value_counts().items():
        confidence = expected.obs["scquery_confidence"][labels == kind].median()
        row = next(line for line in out.splitlines() if line.startswith(kind))
        assert row.split()[2:] == [
            str(n),
            f"{n / 30:.1%}",
            f"{unknown[labels == kind].mean():.1%}",
            f"{confidence:.2f}",
        ]
    assert f"wrote {tmp_path / 'out.csv'}" in out


def test_json_is_one_object_with_the_documented_keys(run, query_file, saved_reference, expected, tmp_path):
    found = run("query", query_file, saved_reference, "-o", tmp_path / "out.csv", "--json").json
    assert list(found) == [
        *("command", "scquery_ae", "cells", "reference", "n_obs", "n_unknown", "n_unlabelled", "genes", "parameters"),
        *("types", "outputs", "warnings"),
    ]
    assert found["command"] == "query"
    assert found["scquery_ae"] == scq.__version__
    assert found["n_obs"] == 30
    assert found["n_unknown"] == int(expected.obs["scquery_unknown"].sum())
    assert found["genes"] == {"n_genes": 100, "n_found": 100, "key": "var_names"}
    assert found["reference"]["sha256"] == expected.uns["scquery"]["reference"]["sha256"]
    assert found["outputs"] == [str(tmp_path / "out.csv")]
    counts = expected.obs["scquery_label"].value_counts()
    assert {row["label"]: row["n_cells"] for row in found["types"]} == counts[counts > 0].to_dict()
    assert [row["n_cells"] for row in found["types"]] == sorted(counts[counts > 0], reverse=True)
    assert sum(row["fraction"] for row in found["types"]) == pytest.approx(1)


def test_a_report_on_the_query(run, query_file, saved_reference, tmp_path):
    page = tmp_path / "pages" / "page.html"
    page.parent.mkdir()
    asked = ("query", query_file, saved_reference, "-o", tmp_path / "out.csv", "--key-added", "mine", "--report", page)
    done = run(*asked, "--batch-key", "batch", "--json")
    assert done.code == 0, done.err
    assert done.json["outputs"] == [str(tmp_path / "out.csv"), str(page)]
    text = page.read_text(encoding="utf-8")
    # The report names the reference, and has the check and the batches.
    assert f"<td>{done.json['reference']['sha256']}</td>" in text
    assert "Results of the check" in text
    assert "Neighbors by batch" in text
    assert [found.name for found in page.parent.iterdir()] == ["page.html"]

    run(*asked).is_one_line(1, r"out.csv already exists. Pass --overwrite")
    (tmp_path / "out.csv").unlink()
    run(*asked).is_one_line(1, r"page.html already exists. Pass --overwrite")
    assert run(*asked, "--overwrite").code == 0
    assert page.read_text(encoding="utf-8") != text


def test_report_options_are_checked_before_the_query(run, query_file, saved_reference, tmp_path):
    asked = ("query", query_file, saved_reference, "-o", tmp_path / "out.csv")
    run(*asked, "--batch-key", "batch").is_wrong_use(
        r"--batch-key is for --report. Add --report FILE, or leave out --batch-key"
    )
    run(*asked, "--report", tmp_path / "page.pdf").is_wrong_use(
        r"The suffix of .*page.pdf sets the format. Expected one of .html, .htm"
    )
    asked += ("--report", tmp_path / "page.html")
    run(*asked, "--batch-key", "x").is_one_line(1, r"--batch-key x is not a column of the reference. Expected.*'batch'")
    assert not list(tmp_path.iterdir())


def test_options_reach_the_call(run, make_adata, saved_reference, tmp_path):
    adata = make_adata(20, 120, seed=9)
    adata.obs["batch"] = "batch 1"
    adata.layers["spare"] = adata.X.copy()
    adata.X = adata.X * 0
    adata.var_names = [f"x{i}" for i in range(adata.n_vars)]
    adata.var["symbol"] = [f"gene{i}" for i in range(adata.n_vars)]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    asked = {
        "n_neighbors": 5,
        "alpha": 0.2,
        "corr_method": "benjamini-hochberg",
        "coverage": 0.9,
        "exclude_key": "batch",
        "layer": "spare",
        "gene_key": "symbol",
        "input_state": "counts",
        "ignore_case": True,
        "key_added": "asked",
    }
    options = []
    for name, value in asked.items():
        options += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    filters = ["--where", "cell_type=type 0", "--where", "cell_type=type 2"]
    done = run("query", tmp_path / "cells.h5ad", saved_reference, *options, *filters, "-o", tmp_path / "out.h5ad")
    assert done.code == 0, done.err
    scq.tl.query(adata, saved_reference, where={"cell_type": ["type 0", "type 2"]}, **asked)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(found.obsm["asked_neighbors"], adata.obsm["asked_neighbors"])
    assert found.obs["asked_prediction_set"].tolist() == adata.obs["asked_prediction_set"].tolist()
    assert found.obs["asked_unknown"].tolist() == adata.obs["asked_unknown"].tolist()
    obs = scq.Reference.load(saved_reference).obs
    assert set(obs["cell_type"].iloc[found.obsm["asked_neighbors"].ravel()]) == {"type 0", "type 2"}
    assert set(obs["batch"].iloc[found.obsm["asked_neighbors"].ravel()]) == {"batch 0"}


def test_a_table_of_orthologs(run, make_adata, saved_reference, expected, tmp_path):
    adata = make_adata(30, 120, seed=2)
    del adata.var["ensembl"]
    adata.var_names = [f"m{name}" for name in adata.var_names]
    adata.write_h5ad(tmp_path / "mouse.h5ad")
    for name, between in (("table.csv", ","), ("table.tsv", "\t")):
        rows = [between.join((gene, gene[1:])) for gene in adata.var_names]
        (tmp_path / name).write_text("\n".join([between.join(("mouse", "human")), *rows]))
        options = ("--orthologs", tmp_path / name, "-o", tmp_path / "out.csv", "--overwrite")
        assert run("query", tmp_path / "mouse.h5ad", saved_reference, *options).code == 0
        table = pd.read_csv(tmp_path / "out.csv")
        assert table["scquery_label"].tolist() == expected.obs["scquery_label"].tolist()
    (tmp_path / "one.csv").write_text("gene\nA\nB\n")
    asked = ("query", tmp_path / "mouse.h5ad", saved_reference, "-o", tmp_path / "new.csv", "--orthologs")
    run(*asked, tmp_path / "one.csv").is_one_line(3, r"one.csv holds no pairs of names\. .* Received 1 col")
    run(*asked, tmp_path / "none.csv").is_one_line(3, r"no table of gene names at .*none.csv")
    (tmp_path / "blank.csv").write_text("")
    run(*asked, tmp_path / "blank.csv").is_one_line(3, r"blank.csv holds no pairs of names")


def test_cells_without_a_count_have_no_label(run, make_adata, saved_reference, tmp_path):
    adata = make_adata(30, 120, seed=2)
    adata.X = sparse.diags((np.arange(30) >= 3).astype(np.float32)).tocsr() @ adata.X
    adata.write_h5ad(tmp_path / "cells.h5ad")
    done = run("query", tmp_path / "cells.h5ad", saved_reference, "-o", tmp_path / "out.csv", "--json")
    assert done.code == 0
    assert done.json["n_unlabelled"] == 3
    assert [f"Warning: {text}" for text in done.json["warnings"]] == done.err.splitlines()
    assert "3 cells have no count in the model genes" in done.err
    shown = run("query", tmp_path / "cells.h5ad", saved_reference, "-o", tmp_path / "again.csv").out
    assert any(line.split() == ["(no", "label)", "3", "10.0%", "100.0%", "-"] for line in shown.splitlines())


def test_many_unknown_cells_give_a_warning(run, make_adata, saved_reference, tmp_path):
    adata = make_adata(30, 120, seed=2)
    rng = np.random.default_rng(0)
    adata.X = rng.poisson(3, adata.shape).astype(np.float32)
    adata.write_h5ad(tmp_path / "noise.h5ad")
    done = run("query", tmp_path / "noise.h5ad", saved_reference, "-o", tmp_path / "out.csv", "--json")
    assert (
        "of the cells are unknown to the reference; with `--alpha 0.05`, 5.0% are expected among cells like the"
        in done.err
    )
    assert f"Warning: {done.json['warnings'][0]}\n" == done.err


def test_max_unknown_has_an_exit_code_and_writes_results(run, make_adata, saved_reference, tmp_path):
    adata = make_adata(30, 120, seed=2)
    noise = np.random.default_rng(0).poisson(3, (15, 120)).astype(np.float32)
    adata.X = sparse.vstack([sparse.csr_matrix(noise), adata.X[15:]]).tocsr()
    adata.write_h5ad(tmp_path / "noise.h5ad")
    asked = ("query", tmp_path / "noise.h5ad", saved_reference, "--overwrite", "-o", tmp_path / "o.csv", "--json")
    done = run(*asked, "--max-unknown", "0.01")
    fraction = pd.read_csv(tmp_path / "o.csv")["scquery_unknown"].mean()
    assert done.code == 6
    assert done.json["n_unknown"] / 30 == fraction > 0.01
    last = done.err.splitlines()[-1]
    assert last == (
        f"Error: {fraction:.1%} of the cells are unknown to the reference, and --max-unknown is 0.01. All results were "
        "written."
    )
    # Equal is not above.
    assert run(*asked, "--max-unknown", str(fraction)).code == 0
    run(*asked, "--max-unknown", "2").is_wrong_use("2.0 is not in the range 0<=x<=1")


@pytest.mark.parametrize(
    ("options", "code", "match"),
    [
        (["--layer", "nope"], 1, r"`--layer nope` is not in `layers`. Expected one of .* or no `--layer`\."),
        (["--gene-key", "nope"], 1, r"`--gene-key nope` holds no gene names. Expected one of 'var_names', 'ensembl'"),
        (["--n-neighbors", "999"], 1, r"`--n-neighbors 999` is more than there are reference cells \(240\)"),
        (["--where", "tissue=liver"], 1, r"`--where tissue=liver` needs the column 'tissue' in .* Expected .* 'batch'"),
        (["--diversify-key", "foo"], 1, r"`--diversify-key foo` needs the column 'foo' in the reference's `obs`"),
        (["--where", "batch=nine"], 1, r"No reference cell matches `--where batch=nine`. Expected some of 'batch 0'"),
        (["--exclude-key", "donor"], 1, r"`--exclude-key donor` needs the column 'donor' in the reference's `obs`"),
    ],
)
def test_a_wrong_option_is_one_line(run, query_file, saved_reference, tmp_path, options, code, match):
    run("query", query_file, saved_reference, "-o", tmp_path / "o.csv", *options).is_one_line(code, match)
    assert not list(tmp_path.iterdir())


def test_wrong_usage(run, query_file, saved_reference, tmp_path):
    run("query", query_file).is_wrong_use("Missing argument 'REFERENCE'")
    asked = ("query", query_file, saved_reference)
    run(*asked, "-o", tmp_path / "out.txt").is_wrong_use(
        r"suffix of .*out.txt sets the format. Expected one of .h5ad, .csv, .csv"
    )
    run(*asked, "--where", "liver").is_wrong_use(r"expected COLUMN=VALUE, such as tissue=liver; received 'liver'")
    run(*asked, "--input-state", "tpm").is_wrong_use(r"'tpm' is not one of")
    run(*asked, "--nonsense").is_wrong_use(r"No such option")


def test_too_few_genes(run, make_adata, saved_reference, tmp_path):
    adata = make_adata(10, 120, seed=2)[:, :5].copy()
    adata.write_h5ad(tmp_path / "few.h5ad")
    asked = ("query", tmp_path / "few.h5ad", saved_reference, "-o", tmp_path / "o.csv")
    match = r"Only \d of the 100 model genes .*`--min-gene-overlap 0.1` is needed.*`--gene-key`; `scquery-ae check`"
    run(*asked).is_one_line(4, match)
    assert run(*asked, "--min-gene-overlap", "0.01").code == 0


def test_scaled_values(run, make_adata, saved_reference, tmp_path):
    adata = make_adata(10, 120, fmt="dense")
    adata.X = adata.X - 3
    adata.write_h5ad(tmp_path / "scaled.h5ad")
    asked = ("query", tmp_path / "scaled.h5ad", saved_reference, "-o", tmp_path / "o.csv")
    run(*asked).is_one_line(1, r"looks scaled: .* often in `raw` \(`--use-raw`\) or a layer \(`--layer`\)")


def test_a_damaged_reference(run, query_file, saved_reference, tmp_path):
    asked = ("-o", tmp_path / "o.csv")
    broken = tmp_path / "broken.scq"
    shutil.copytree(saved_reference, broken)
    weights = next(broken.glob("weights.*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    run("query", query_file, broken, *asked).is_one_line(3, r"broken.scq is damaged: weights.* is not what its mani")
    newer = json.loads((broken / "manifest.json").read_text()) | {"format_version": 99}
    (broken / "manifest.json").write_text(json.dumps(newer))
    run("query", query_file, broken, *asked).is_one_line(3, r"has format version 99; .* Upgrade with `pip install")
    (tmp_path / "hollow.scq").mkdir()
    run("query", query_file, tmp_path / "hollow.scq", *asked).is_one_line(3, r"hollow.scq is not a reference")
    (tmp_path / "text.zip").write_text("")
    run("query", query_file, tmp_path / "text.zip", *asked).is_one_line(3, r"text.zip cannot be read as a zipped")


def test_results_are_never_written_over_the_cells(run, query_file, saved_reference):
    before = query_file.read_bytes()
    asked = ("query", query_file, saved_reference, "-o", query_file, "--overwrite")
    run(*asked).is_one_line(1, r"mine.h5ad is an input. Choose another place")
    assert query_file.read_bytes() == before


def test_outputs_are_checked_before_the_query(run, saved_reference, query_file, tmp_path, monkeypatch):
    monkeypatch.setattr(scq.tl, "query", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "taken").write_text("")
    asked = ("query", query_file, saved_reference, "-o")
    run(*asked, tmp_path / "taken" / "o.csv").is_one_line(1, r"cannot be written: Not a directory")
    (tmp_path / "o.csv").write_text("kept")
    run(*asked, tmp_path / "o.csv").is_one_line(1, r"o.csv already exists. Pass --overwrite")
    assert (tmp_path / "o.csv").read_text() == "kept"


def test_a_full_disk_leaves_nothing_half_written(run, saved_reference, query_file, tmp_path, monkeypatch):
    def half(self, path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", half)
    outputs = ("-o", tmp_path / "o.h5ad", "-o", tmp_path / "o.csv")
    failed = run("query", query_file, saved_reference, *outputs)
    failed.is_one_line(1, r"o.h5ad could not be written: .*No space left on device. Nothing was left behind")
    # The table is whole, and stays.
    assert [p.name for p in tmp_path.iterdir()] == ["o.csv"]
    assert len(pd.read_csv(tmp_path / "o.csv")) == 30


def test_unexpected_exceptions_pass(run, saved_reference, query_file, tmp_path, monkeypatch):
    def broken(*_, **__):
        return 1 / 0

    monkeypatch.setattr(scq.tl, "query", broken)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run("query", query_file, saved_reference, "-o", tmp_path / "o.csv")
