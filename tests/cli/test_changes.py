"""``add`` and ``remove``: references that grow and shrink as the methods make them."""

import shutil

import numpy as np
import pytest

import scquery_ae as scq


@pytest.fixture
def own(saved_reference, tmp_path):
    """A copy of the small reference."""
    path = tmp_path / "own.scq"
    shutil.copytree(saved_reference, path)
    return path


@pytest.fixture
def more(make_adata, tmp_path):
    """Twenty cells, some of a new type, with their labels under another name."""
    adata = make_adata(20, 120, seed=7)
    adata.obs_names = [f"new{i}" for i in range(20)]
    adata.obs["kind"] = ["type 0"] * 12 + ["type new"] * 8
    del adata.obs["cell_type"]
    adata.write_h5ad(tmp_path / "more.h5ad")
    return adata


def test_added_cells_are_those_of_the_method(run, own, more, tmp_path):
    asked = ("add", tmp_path / "more.h5ad", own, "--label-key", "kind")
    done = run(*asked, "-o", tmp_path / "grown.scq", "--json")
    assert (done.code, done.err) == (0, "")
    expected = scq.Reference.load(own)
    expected.add(more, label_key="kind")
    found = scq.Reference.load(tmp_path / "grown.scq")
    np.testing.assert_array_equal(found.embedding, expected.embedding)
    assert found.obs.index.tolist() == expected.obs.index.tolist()
    assert found.types == expected.types

    assert list(done.json) == [
        *("command", "scquery_ae", "output", "n_cells", "n_obs", "types", "calibration", "warnings"),
    ]
    assert (done.json["n_cells"], done.json["n_obs"]) == (20, 260)
    types = {row["label"]: row for row in done.json["types"]}
    assert types["type new"] == {"label": "type new", "n_before": 0, "n_after": 8, "new": True}
    assert types["type 0"]["n_after"] == types["type 0"]["n_before"] + 12
    assert scq.Reference.load(own).n_obs == 240
    # Named by neighbors from now on.
    row = next(line for line in run("info", tmp_path / "grown.scq").out.splitlines() if line.startswith("type new"))
    assert row.split() == ["type", "new", "8", "8", "added", "later"]

    shown = run(*asked, "--in-place").out
    assert "added 20 cells; the reference has 260 cells of 4 types" in shown
    assert any(line.split() == ["type", "new", "(new)", "0", "8"] for line in shown.splitlines())
    np.testing.assert_array_equal(scq.Reference.load(own).embedding, expected.embedding)
    run(*asked, "--in-place").is_one_line(1, r"20 cells have names that are in the reference already, such as 'new0'")


def test_added_cells_with_repeated_names_can_be_numbered(run, own, more, tmp_path):
    more.obs_names = ["new", "new", *more.obs_names[2:]]
    more.write_h5ad(tmp_path / "repeats.h5ad")
    asked = ("add", tmp_path / "repeats.h5ad", own, "--label-key", "kind", "-o", tmp_path / "new.scq")
    refused = run(*asked)
    assert refused.code == 1
    assert "Names of the cells to add must be unique" in refused.err
    assert "pass `--make-unique`." in refused.err
    assert run(*asked, "--make-unique").code == 0


def test_unlabelled_cells_cannot_be_added(run, own, more, tmp_path):
    asked = ("add", tmp_path / "more.h5ad", own, "--in-place")
    run(*asked).is_one_line(1, r"`--label-key cell_type` is not a column of `obs`. Expected one of")
    assert scq.Reference.load(own).n_obs == 240


def test_removed_cells_are_those_of_the_method(run, own, tmp_path):
    done = run("remove", own, "--where", "batch=batch 0", "--where", "cell_type=type 1", "-o", tmp_path / "less.scq")
    assert done.code == 0
    expected = scq.Reference.load(own)
    expected.remove(where={"batch": "batch 0", "cell_type": "type 1"})
    found = scq.Reference.load(tmp_path / "less.scq")
    assert found.obs.index.tolist() == expected.obs.index.tolist()
    np.testing.assert_array_equal(found.embedding, expected.embedding)
    assert f"removed {240 - expected.n_obs} cells; the reference has {expected.n_obs} cells of 3 types" in done.out


def test_cells_by_name_from_options_a_file_and_standard_input(run, own, tmp_path):
    (tmp_path / "names.txt").write_text("cell1\n\n  cell2  \n")
    found = run("remove", own, "--name", "cell0", "--names-from", tmp_path / "names.txt", "--in-place", "--json").json
    assert (found["command"], found["n_cells"], found["output"]) == ("remove", 3, str(own))
    assert not {"cell0", "cell1", "cell2"} & set(scq.Reference.load(own).obs.index)
    assert run("remove", own, "--names-from", "-", "--in-place", input="cell3\n").code == 0
    assert scq.Reference.load(own).n_obs == 236


def test_a_dry_run_writes_nothing(run, own):
    before = {p.name: p.stat().st_mtime_ns for p in own.iterdir()}
    done = run("remove", own, "--where", "batch=batch 0", "--dry-run")
    assert done.code == 0
    assert "would remove 120 cells; the reference would have 120 cells of 3 types" in done.out
    assert "nothing was written (--dry-run)" in done.out
    assert {p.name: p.stat().st_mtime_ns for p in own.iterdir()} == before
    assert run("remove", own, "--where", "batch=batch 0", "--dry-run", "--json").json["output"] is None
    asked = ("remove", own, "--where", "batch=batch 0", "--dry-run")
    run(*asked, "-o", own.parent / "nowhere" / "x.scq").is_one_line(1, r"there is no folder .*nowhere")
    assert run(*asked, "--in-place", "--json").json["output"] is None
    run(*asked, "--in-place", "-o", own.parent / "x.scq").is_wrong_use(r"either --output NEW.scq, or --in-place")
    assert {p.name: p.stat().st_mtime_ns for p in own.iterdir()} == before


def test_wrong_usage(run, own, more, tmp_path):
    either = r"either --output NEW.scq, or --in-place"
    run("remove", own, "--name", "cell0").is_wrong_use(either)
    run("remove", own, "--name", "cell0", "--in-place", "-o", tmp_path / "x.scq").is_wrong_use(either)
    run("add", tmp_path / "more.h5ad", own).is_wrong_use(either)
    run("remove", own, "--in-place").is_wrong_use(r"Choose the cells to remove: --where COLUMN=VALUE, --name CELL")


def test_removals_that_are_refused(run, own, tmp_path):
    asked = ("remove", own, "--in-place")
    run(*asked, "--name", "nobody").is_one_line(1, r"The reference has no cells called 'nobody'")
    run(*asked, "--where", "batch=nine").is_one_line(1, r"No cell of the reference matches `--where batch=nine`")
    run(*asked, "--where", "study=x").is_one_line(
        1, r"`--where study=x` needs the column 'study' in the reference's `obs`"
    )
    (tmp_path / "none.txt").write_text("\n")
    run(*asked, "--names-from", tmp_path / "none.txt").is_one_line(
        3, r"none.txt holds no name. Expected one name per line"
    )
    run(*asked, "--names-from", tmp_path / "no.txt").is_one_line(
        3, r"There is no file of names at .*no.txt; check the path"
    )
    run("remove", own, "--name", "cell0", "-o", own).is_one_line(1, r"own.scq is an input")
    assert scq.Reference.load(own).n_obs == 240
