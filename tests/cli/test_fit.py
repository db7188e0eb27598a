"""``scquery-ae fit``: the reference that the Python calls give, and what is found before hours of training."""

import anndata
import numpy as np
import pytest
from cell_files import write_mtx
from scipy import sparse

import scquery_ae as scq
from scquery_ae.cli import fitting

SMALL = ("--layer-sizes", "8,4", "--n-top-genes", "40", "--epochs", "2")

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture
def no_training(monkeypatch):
    """Fail where training begins."""
    monkeypatch.setattr(fitting, "train", lambda *_: pytest.fail("training began"))


def test_the_reference_is_that_of_the_calls(run, cells_file, tmp_path):
    options = ("--label-key", "cell_type", "--batch-key", "donor", "--seed", "3")
    done = run("fit", cells_file, *options, *SMALL, "-o", tmp_path / "made.scq", "--json")
    assert (done.code, done.err) == (0, "")

    adata = anndata.read_h5ad(cells_file)
    scq.pp.normalize(adata, n_top_genes=40, batch_key="donor")
    encoder = scq.tl.pretrain(adata, layer_sizes=(8, 4), epochs=2, random_state=3)
    scq.tl.finetune(adata, encoder, label_key="cell_type", batch_key="donor", epochs=2, random_state=3)
    expected = scq.tl.build_reference(adata, encoder, label_key="cell_type", batch_key="donor")
    found = scq.Reference.load(tmp_path / "made.scq")
    np.testing.assert_array_equal(found.embedding, expected.embedding)
    np.testing.assert_array_equal(found.cells.held_out, expected.cells.held_out)
    assert found.types == expected.types

    assert list(done.json) == [
        *("command", "scquery_ae", "output", "n_obs", "n_unlabelled", "n_genes", "label_key", "types", "held_out"),
        *("seconds", "warnings"),
    ]
    assert done.json["n_obs"] == 90
    assert done.json["n_genes"] == 40
    assert done.json["types"] == ["type 0", "type 1", "type 2"]
    held_out = done.json["held_out"]
    assert held_out["n_cells"] == sum(row["n_cells"] for row in held_out["types"]) == int(expected.cells.held_out.sum())
    assert held_out["macro_f1"] == pytest.approx(np.mean([row["f1"] for row in held_out["types"]]))
    made = found.provenance["fit"]
    assert made["cells"] == ["labelled.h5ad"]
    assert made["options"]["seed"] == 3
    assert made["options"]["layer_sizes"] == [8, 4]
    # What a file to share need not tell.
    assert str(cells_file.parent) not in str(found.provenance)


def test_several_files_with_their_names_as_batches(run, make_adata, tmp_path):
    for i, name in enumerate(("one", "two")):
        adata = make_adata(40, 50, seed=i)
        adata.obs_names = [f"{name}{cell}" for cell in adata.obs_names]
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    files = (tmp_path / "one.h5ad", tmp_path / "two.h5ad")
    options = ("--label-key", "cell_type", "--file-key", "study", "--batch-key", "study", "--no-lazy", *SMALL)
    done = run("fit", *files, *options, "-o", tmp_path / "both.zip")
    assert done.code == 0, done.err
    reference = scq.Reference.load(tmp_path / "both.zip")
    assert reference.obs["study"].value_counts().to_dict() == {"one": 40, "two": 40}
    assert "80, 0 without a label" in done.out
    assert "3 in cell_type" in done.out


def test_one_file_can_name_its_batch(run, cells_file, tmp_path):
    options = ("--label-key", "cell_type", "--file-key", "study", *SMALL)
    assert run("fit", cells_file, *options, "-o", tmp_path / "made.scq").code == 0
    assert set(scq.Reference.load(tmp_path / "made.scq").obs["study"]) == {"labelled"}


def test_unlabelled_gene_key_and_raw(run, cells_file, tmp_path):
    options = ("--unlabelled", "type 2", "--gene-key", "ensembl", "--use-raw", "--label-key", "cell_type", *SMALL)
    done = run("fit", cells_file, *options, "-o", tmp_path / "made.scq", "--json")
    assert done.code == 0, done.err
    assert done.json["n_unlabelled"] == 30
    assert done.json["types"] == ["type 0", "type 1"]
    assert all(gene.startswith("ENSG") for gene in scq.Reference.load(tmp_path / "made.scq").encoder.genes)


def test_lazy_cells_and_resuming_from_a_checkpoint(run, cells_file, tmp_path):
    options = ("--label-key", "cell_type", "--lazy", "--checkpoint", tmp_path / "steps", *SMALL)
    assert run("fit", cells_file, *options, "-o", tmp_path / "first.scq").code == 0
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()}
    assert len(kept) >= 3  # two layers and the fine-tuning
    assert run("fit", cells_file, *options, "-o", tmp_path / "second.scq").code == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()} == kept
    first, second = (scq.Reference.load(tmp_path / f"{name}.scq") for name in ("first", "second"))
    np.testing.assert_array_equal(first.embedding, second.embedding)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--label-key", "type"], r"`--label-key type` is not a column of `obs`. Expected one of 'cell_type'"),
        (["--label-key", "one"], r"--label-key one must give at least two cell types. Received 1 \(90 of 90 cells"),
        (["--label-key", "cell_type", "--batch-key", "study"], r"`--batch-key study` is not a column"),
        (["--label-key", "cell_type", "--calibration", "leave_one_batch_out"], r"need --batch-key"),
        (["--label-key", "cell_type", "--adversarial-weight", "0.3"], r"need --batch-key, the column of the batches"),
        (
            ["--label-key", "cell_type", "--batch-key", "one", "--calibration", "leave_one_batch_out"],
            r"need two batches of labelled cells. --batch-key one gives one",
        ),
        (
            ["--label-key", "cell_type", "--unlabelled", "type 0", "--unlabelled", "foo"],
            r"`--unlabelled foo` is no label in --label-key cell_type. Expected some of 'type 0', 'type 1'",
        ),
        (["--label-key", "cell_type", "--gene-key", "symbol"], r"--gene-key symbol is not a column of var.*: ensembl"),
    ],
)
def test_errors_are_found_before_training(run, cells_file, tmp_path, options, match):
    adata = anndata.read_h5ad(cells_file)
    adata.obs["one"] = "same"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    run("fit", tmp_path / "cells.h5ad", *options, "-o", tmp_path / "made.scq").is_one_line(1, match)
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(("name", "text"), [("nope.gmt", None), ("empty.gmt", ""), ("wrong.gmt", "genes\n")])
def test_gene_sets_are_read_before_training(run, cells_file, tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    asked = ("fit", cells_file, "--label-key", "cell_type", "--gene-sets", tmp_path / name, "-o", tmp_path / "made.scq")
    match = (
        rf"no GMT file of gene sets at .*{name}" if text is None else rf"{name} (has no gene sets|is not a gene set)"
    )
    run(*asked).is_one_line(3, match)


@pytest.mark.usefixtures("no_training")
def test_repeated_names_are_found_before_training(run, make_adata, tmp_path):
    adata = make_adata(40, 50)
    adata.obs_names = ["a", "a", *adata.obs_names[2:]]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    asked = ("fit", tmp_path / "cells.h5ad", "--label-key", "cell_type", "-o", tmp_path / "made.scq")
    run(*asked).is_one_line(1, r"Names of cells must be unique. Received 1 repeated .* pass `--make-unique`")


@pytest.mark.usefixtures("no_training")
def test_outputs_and_inputs_are_checked_first(run, cells_file, saved_reference, tmp_path):
    asked = ("fit", cells_file, "--label-key", "cell_type")
    run(*asked, "-o", saved_reference).is_one_line(1, r"There is already a reference at .*Pass --overwrite")
    run(*asked, "-o", cells_file, "--overwrite").is_one_line(1, r"labelled.h5ad is an input")
    two = ("fit", cells_file, tmp_path / "absent.h5ad", "--label-key", "cell_type", "-o", tmp_path / "made.scq")
    run(*two).is_one_line(3, r"no file of cells at .*absent.h5ad")
    which = r"Give --label-key, the column of obs with the cell types\. Its columns: cell_type, batch, donor"
    run("fit", cells_file, "-o", tmp_path / "made.scq").is_wrong_use(which)
    wrong = r"expected widths of layers, such as 512,64; received '{}'"
    for sizes in ("large", "8,0"):
        run(*asked, "--layer-sizes", sizes, "-o", tmp_path / "made.scq").is_wrong_use(wrong.format(sizes))


def test_genes_can_be_limited_to_those_of_a_query(run, cells_file, make_adata, tmp_path):
    query = make_adata(10, 60)[:, 20:50].copy()
    query.var_names = query.var["ensembl"].str.split(".").str[0].to_numpy()
    query.write_h5ad(tmp_path / "query.h5ad")
    # Names match as in a query: by whichever column fits, without the version.
    options = ("--label-key", "cell_type", "--gene-key", "ensembl", "--genes-of", tmp_path / "query.h5ad", *SMALL)
    done = run("fit", cells_file, *options, "-o", tmp_path / "made.scq", "--json")
    assert done.json["n_genes"] == 30
    reference = scq.Reference.load(tmp_path / "made.scq")
    assert {gene.split(".")[0] for gene in reference.encoder.genes} == set(query.var_names)
    assert reference.provenance["fit"]["options"]["genes_of"] == ["query.h5ad"]
    query.var_names = [f"x{i}" for i in range(30)]
    del query.var["ensembl"]
    query.write_h5ad(tmp_path / "query.h5ad")
    match = (
        r"--genes-of .*query.h5ad has {} of the 60 genes of the labelled cells. Expected at least 20 genes in common, "
        r"with names such as 'ENSG00000000000.1'.* received names such as '{}'"
    )
    run("fit", cells_file, *options, "-o", tmp_path / "new.scq").is_one_line(4, match.format(0, "x0"))
    few = make_adata(10, 60)[:, :10].copy()
    few.var_names = few.var["ensembl"].to_numpy()
    few.write_h5ad(tmp_path / "query.h5ad")
    run("fit", cells_file, *options, "-o", tmp_path / "new.scq").is_one_line(4, match.format(10, "ENSG00000000000.1"))


@pytest.mark.usefixtures("no_training")
def test_genes_of_a_query_that_leave_cells_without_a_count(run, make_adata, tmp_path):
    adata = make_adata(40, 50)
    counts = adata.X.toarray()
    counts[:, :25] += 1
    counts[:3, :25] = 0
    counts[:3, 30] = 1
    adata.X = sparse.csr_matrix(counts)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    make_adata(10, 50)[:, :25].copy().write_h5ad(tmp_path / "query.h5ad")
    asked = ("fit", tmp_path / "cells.h5ad", "--label-key", "cell_type", "-o", tmp_path / "made.scq")
    match = r"`--genes-of .*query.h5ad` leaves 25 of 50 genes, and 3 of 40 cells have counts in other genes only"
    run(*asked, "--genes-of", tmp_path / "query.h5ad").is_one_line(4, match)


def test_logged_values_are_refused(run, make_adata, tmp_path):
    adata = make_adata(40, 50)
    adata.X = adata.X.log1p()
    adata.write_h5ad(tmp_path / "logged.h5ad")
    asked = ("fit", tmp_path / "logged.h5ad", "--label-key", "cell_type", "-o", tmp_path / "made.scq")
    match = (
        r"looks already log-normalised: .* `raw` \(`--use-raw`\) or a layer \(`--layer`\)\. .*`--input-state counts`"
    )
    run(*asked).is_one_line(1, match)


def test_empty_cells(run, make_adata, tmp_path):
    adata = make_adata(40, 50)
    adata.X = adata.X.multiply((np.arange(40) > 1)[:, None]).tocsr()
    adata.write_h5ad(tmp_path / "empty.h5ad")
    asked = ("fit", tmp_path / "empty.h5ad", "--label-key", "cell_type", *SMALL, "-o", tmp_path / "made.scq")
    run(*asked).is_one_line(1, r"2 of 40 cells without any, .* pass `--drop-empty` to drop them")
    done = run(*asked, "--drop-empty", "--json")
    assert done.json["n_obs"] == 38


def test_a_10x_folder_has_no_labels(run, make_adata, tmp_path):
    write_mtx(tmp_path / "sample", make_adata(10, 12))
    asked = ("fit", tmp_path / "sample", "--label-key", "cell_type", "-o", tmp_path / "made.scq")
    run(*asked).is_one_line(1, r"`--label-key cell_type` is not a column of `obs`. Expected one of \(none there\)")


def test_a_failed_save_names_the_place(run, cells_file, tmp_path, monkeypatch):
    def full(*_, **__):
        msg = "The reference could not be written to made.scq: No space left on device."
        raise scq.BundleError(msg)

    monkeypatch.setattr(scq.Reference, "save", full)
    asked = ("fit", cells_file, "--label-key", "cell_type", *SMALL, "-o", tmp_path / "made.scq")
    run(*asked).is_one_line(1, r"could not be written to made.scq: No space left on device")


def test_repeated_names_across_files_are_numbered(run, make_adata, tmp_path):
    for i, name in enumerate(("one", "two")):
        adata = make_adata(40, 50, seed=i)
        adata.obs_names = ["cell", *adata.obs_names[1:-1], "cell"]
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    asked = ("fit", tmp_path / "one.h5ad", tmp_path / "two.h5ad", "--label-key", "cell_type", *SMALL)
    refused = run(*asked, "-o", tmp_path / "made.scq")
    assert refused.code == 1
    assert refused.err.splitlines()[-1].startswith("Error: Names of cells must be unique. Received 2 repeated")
    done = run(*asked, "--make-unique", "-o", tmp_path / "made.scq")
    assert done.code == 0, done.err
    assert {"cell-one", "cell-1-one", "cell-two", "cell-1-two"} <= set(
        scq.Reference.load(tmp_path / "made.scq").obs.index
    )
