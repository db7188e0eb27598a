"""``relabel``: types under other names, as the method gives them."""

import shutil

import numpy as np
import pytest

import scquery_ae as scq


@pytest.fixture
def own(saved_reference, tmp_path):
    """A copy of the small reference: 72 cells each of "type 0", "type 1" and "type 2", and 24 without a label."""
    path = tmp_path / "own.scq"
    shutil.copytree(saved_reference, path)
    return path


def labels_of(path):
    reference = scq.Reference.load(path)
    return reference.types, reference.obs["cell_type"].astype(object)


def test_renamed_types_are_those_of_the_method(run, own, tmp_path):
    before, old = labels_of(own)
    assert before == ("type 0", "type 1", "type 2")
    done = run(
        "relabel", own, "--name", "type 0=T cell", "--name", "type 2=B=cell", "-o", tmp_path / "new.scq", "--json"
    )
    assert (done.code, done.err) == (0, "")
    types, labels = labels_of(tmp_path / "new.scq")
    assert types == ("T cell", "type 1", "B=cell")
    new = {"type 0": "T cell", "type 1": "type 1", "type 2": "B=cell"}
    assert labels.dropna().tolist() == [new[kind] for kind in old.dropna()]
    assert (labels.isna() == old.isna()).all()
    expected = scq.Reference.load(own)
    expected.relabel({"type 0": "T cell", "type 2": "B=cell"})
    found = scq.Reference.load(tmp_path / "new.scq")
    np.testing.assert_array_equal(found.embedding, expected.embedding)
    np.testing.assert_array_equal(found.classifier_columns, expected.classifier_columns)
    np.testing.assert_array_equal(found.calibration.scores, expected.calibration.scores)

    assert list(done.json) == [
        *("command", "scquery_ae", "output", "names", "n_cells", "n_obs", "types", "calibration", "warnings"),
    ]
    assert done.json["command"] == "relabel"
    assert done.json["output"] == str(tmp_path / "new.scq")
    assert done.json["names"] == {"type 0": "T cell", "type 2": "B=cell"}
    assert (done.json["n_cells"], done.json["n_obs"]) == (144, 240)
    assert done.json["types"] == [
        {"label": "T cell", "n_before": 0, "n_after": 72, "new": True},
        {"label": "type 1", "n_before": 72, "n_after": 72, "new": False},
        {"label": "B=cell", "n_before": 0, "n_after": 72, "new": True},
        {"label": "type 0", "n_before": 72, "n_after": 0, "new": False},
        {"label": "type 2", "n_before": 72, "n_after": 0, "new": False},
    ]
    # The first is as it was.
    assert labels_of(own)[0] == before


def test_types_with_the_same_name_are_joined(run, own):
    shown = run("relabel", own, "--name", "type 0=type 2", "--in-place").out.splitlines()
    assert shown[0] == "relabelled 72 cells; the reference has 240 cells of 2 types"
    rows = [line.split() for line in shown]
    assert ["type", "2", "72", "144"] in rows
    assert ["type", "0", "(gone)", "72", "0"] in rows
    assert not any(row[:2] == ["type", "1"] for row in rows)
    assert shown[-1] == f"wrote {own}"
    types, labels = labels_of(own)
    assert types == ("type 2", "type 1")
    assert (labels == "type 2").sum() == 144


def test_names_change_at_once(run, own):
    """Two types change places, which one renaming after the other would make one of."""
    _, old = labels_of(own)
    done = run("relabel", own, "--name", "type 0=type 1", "--name", "type 1=type 0", "--in-place", "--json")
    assert done.json["n_cells"] == 144
    types, labels = labels_of(own)
    assert types == ("type 1", "type 0", "type 2")
    other = {"type 0": "type 1", "type 1": "type 0", "type 2": "type 2"}
    assert labels.dropna().tolist() == [other[kind] for kind in old.dropna()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.csv", 'old,new\ntype 0,"a, b"\n\ntype 1, c \n'),
        ("names.tsv", "new\told\na, b\ttype 0\n \t \nc\ttype 1\n"),
        ("names.csv", "old;note;new\ntype 0;first;a, b\ntype 1;;c\n"),
        ("names.csv", '\ufeffold,new\r\ntype 0,"a, b"\r\ntype 1,c\r\n'),
    ],
    ids=["commas", "tabs", "semicolons", "from a spreadsheet"],
)
def test_names_from_a_table(run, own, tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    done = run("relabel", own, "--names-from", tmp_path / name, "--in-place", "--json")
    assert done.json["names"] == {"type 0": "a, b", "type 1": "c"}
    assert labels_of(own)[0] == ("a, b", "c", "type 2")


def test_names_from_standard_input_and_options_together(run, own):
    asked = ("relabel", own, "--names-from", "-", "--name", "type 1=c", "--name", "type 1=c", "--in-place", "--json")
    assert run(*asked, input="old,new\ntype 0,a=b\n").json["names"] == {"type 1": "c", "type 0": "a=b"}
    assert labels_of(own)[0] == ("a=b", "c", "type 2")


def test_a_name_for_itself_changes_nothing(run, own):
    done = run("relabel", own, "--name", "type 0=type 0", "--name", "type 1=x", "--dry-run")
    assert done.out.splitlines()[0] == "would relabel 72 cells; the reference would have 240 cells of 3 types"
    assert "type 0" not in done.out


def test_a_dry_run_writes_nothing(run, own):
    before = {p.name: p.stat().st_mtime_ns for p in own.iterdir()}
    done = run("relabel", own, "--name", "type 0=x", "--dry-run")
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert ["x", "(new)", "0", "72"] in rows
    assert done.out.splitlines()[-1] == "nothing was written (--dry-run)"
    assert {p.name: p.stat().st_mtime_ns for p in own.iterdir()} == before
    assert run("relabel", own, "--name", "type 0=x", "--dry-run", "--json").json["output"] is None
    nowhere = own.parent / "nowhere" / "x.scq"
    run("relabel", own, "--name", "type 0=x", "--dry-run", "-o", nowhere).is_one_line(
        1, r"there is no folder .*nowhere"
    )


def test_an_existing_reference_is_kept_by_default(run, own, tmp_path):
    shutil.copytree(own, tmp_path / "there.scq")
    asked = ("relabel", own, "--name", "type 0=x", "-o", tmp_path / "there.scq")
    run(*asked).is_one_line(1, r"There is already a reference at .*there.scq. Pass --overwrite")
    assert labels_of(tmp_path / "there.scq")[0][0] == "type 0"
    assert run(*asked, "--overwrite").code == 0
    assert labels_of(tmp_path / "there.scq")[0][0] == "x"


def test_wrong_usage(run, own, tmp_path):
    either = r"either --output NEW.scq, or --in-place"
    run("relabel", own, "--name", "type 0=x").is_wrong_use(either)
    run("relabel", own, "--name", "type 0=x", "--in-place", "-o", tmp_path / "x.scq").is_wrong_use(either)
    run("relabel", own, "--in-place").is_wrong_use(r"Choose the types to rename: --name OLD=NEW or --names-from FILE")
    for wrong in ("type 0", "=x", "type 0="):
        run("relabel", own, "--in-place", "--name", wrong).is_wrong_use(
            rf"expected OLD=NEW, such as beta='beta cell'; received '{wrong}'"
        )


def test_renames_that_are_refused(run, own):
    asked = ("relabel", own, "--in-place")
    run(*asked, "--name", "nothing=x").is_one_line(
        1, r"no types called 'nothing'. Expected some of 'type 0', 'type 1', 'type 2'"
    )
    run(*asked, "--name", "type 0=type 1", "--name", "type 2=type 1").is_one_line(
        1, r"Renaming would leave the single type 'type 1'. Keep at least two"
    )
    run(*asked, "--name", "type 0=x", "--name", "type 0=y").is_one_line(
        1, r"The type 'type 0' has two new names, 'x' and 'y'. Give one for each type"
    )
    assert labels_of(own)[0] == ("type 0", "type 1", "type 2")


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (
            "",
            3,
            r"names.csv has no columns old and new. Received the heading \(none\). Expected a CSV or TSV whose heading",
        ),
        ("type 0,x\n", 3, r"names.csv has no columns old and new. Received the heading type 0, x\. Expected"),
        (
            "old,new\n\n",
            3,
            r"names.csv names no type. Expected a CSV or TSV whose heading has old and new",
        ),
        (
            "old,new\ntype 1,y\ntype 0,\n",
            3,
            r"names.csv lacks a name in line 3: type 0, \. Expected an old and a new",
        ),
        (
            "old,new\n\ntype 0\n",
            3,
            r"names.csv lacks a name in line 3: type 0\. .* delete it to keep the name",
        ),
        ('old,new\n"type 0"x,y\n', 3, r"names.csv cannot be read as a table: .* Expected a CSV or TSV whose heading"),
    ],
)
def test_a_table_without_names(run, own, tmp_path, content, code, said):
    (tmp_path / "names.csv").write_text(content)
    run("relabel", own, "--names-from", tmp_path / "names.csv", "--in-place").is_one_line(code, said)
    assert labels_of(own)[0] == ("type 0", "type 1", "type 2")


def test_files_of_names_that_are_refused(run, own, tmp_path):
    asked = ("relabel", own, "--in-place", "--names-from")
    run(*asked, tmp_path / "no.csv").is_one_line(3, r"There is no table of names at .*no.csv; check the path")
    (tmp_path / "latin.csv").write_bytes(b"old,new\ntype 0,caf\xe9\n")
    run(*asked, tmp_path / "latin.csv").is_one_line(3, r"latin.csv cannot be read: .*utf-8")
    assert run(*asked, "-", input="a,b\n").err.startswith("Error: Standard input has no columns old and new.")


def test_a_missing_reference(run, tmp_path):
    done = run("relabel", tmp_path / "no.scq", "--name", "a=b", "--dry-run")
    done.is_one_line(3, r"There is no reference at .*no.scq")
