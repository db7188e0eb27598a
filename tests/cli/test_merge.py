"""``merge``: one reference out of several, as the method makes it."""

import re
import shutil
import warnings

import numpy as np
import pytest

import scquery_ae as scq


@pytest.fixture
def parts(saved_reference, tmp_path):
    """The small reference in three: batch 0; batch 1 without "type 2"; and the rest, with "type 2" as "other"."""
    whole = scq.Reference.load(saved_reference)
    obs = whole.obs
    first = obs["batch"] == "batch 0"
    third = ~first & (obs["cell_type"] == "type 2")
    # A part needs two types: the third keeps some cells of another.
    third |= ~first & obs.index.isin(obs.index[~first & (obs["cell_type"] == "type 1")][:5])
    paths = []
    for name, kept in (("first", first), ("second", ~first & ~third), ("third", third)):
        part = scq.Reference.load(saved_reference)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No cell of", scq.ScqueryWarning)
            part.remove(obs.index[~kept])
        if name == "third":
            part.relabel({"type 2": "other"})
        paths.append(tmp_path / f"{name}.scq")
        part.save(paths[-1])
    return paths


@pytest.fixture
def foreign(saved_reference, tmp_path):
    """A reference of other cells by another encoder."""
    other = scq.Reference.load(saved_reference)
    other.encoder.layers[0].kernel.setflags(write=True)
    other.encoder.layers[0].kernel[0, 0] += 1
    other.obs.index = [f"else{i}" for i in range(other.n_obs)]
    other.save(tmp_path / "foreign.scq")
    return tmp_path / "foreign.scq"


def test_merged_references_are_those_of_the_method(run, parts, saved_reference, tmp_path):
    first, second, third = parts
    n = {path: scq.Reference.load(path).n_obs for path in parts}
    done = run("merge", first, second, third, "-o", tmp_path / "all.scq", "--json")
    assert (done.code, done.err) == (0, "")
    found = scq.Reference.load(tmp_path / "all.scq")
    expected = scq.Reference.load(first)
    expected.merge(scq.Reference.load(second))
    expected.merge(scq.Reference.load(third))
    assert found.obs.index.tolist() == expected.obs.index.tolist()
    assert found.types == expected.types == ("type 0", "type 1", "type 2", "other")
    np.testing.assert_array_equal(found.embedding, expected.embedding)
    np.testing.assert_array_equal(found.calibration.scores, expected.calibration.scores)
    # Every cell of the whole is there with its own code.
    whole = scq.Reference.load(saved_reference)
    assert sorted(found.obs.index) == sorted(whole.obs.index)
    np.testing.assert_array_equal(found.embedding, whole.embedding[whole.obs.index.get_indexer(found.obs.index)])

    assert list(done.json) == [
        *("command", "scquery_ae", "output", "others", "n_cells", "n_obs", "types", "calibration", "warnings"),
    ]
    assert done.json["command"] == "merge"
    assert done.json["others"] == [str(second), str(third)]
    assert (done.json["n_cells"], done.json["n_obs"]) == (n[second] + n[third], 240)
    types = {row["label"]: row for row in done.json["types"]}
    new = int((scq.Reference.load(third).obs["cell_type"] == "other").sum())
    assert types["other"] == {"label": "other", "n_before": 0, "n_after": new, "new": True}
    one = whole.obs["cell_type"] == "type 1"
    before = int((one & (whole.obs["batch"] == "batch 0")).sum())
    assert types["type 1"] == {"label": "type 1", "n_before": before, "n_after": int(one.sum()), "new": False}
    # The parts are as they were.
    assert {path: scq.Reference.load(path).n_obs for path in parts} == n


def test_in_place_changes_the_first_reference(run, parts):
    first, second, third = parts
    n = {path: scq.Reference.load(path).n_obs for path in parts}
    shown = run("merge", first, third, "--in-place").out.splitlines()
    assert shown[0] == f"merged in {n[third]} cells; the reference has {n[first] + n[third]} cells of 4 types"
    assert any(line.split()[:3] == ["other", "(new)", "0"] for line in shown)
    assert shown[-1] == f"wrote {first}"
    assert scq.Reference.load(first).n_obs == n[first] + n[third]
    assert scq.Reference.load(third).n_obs == n[third]
    assert run("merge", first, second, "--in-place").code == 0
    assert scq.Reference.load(first).n_obs == 240


def test_zipped_references_can_be_merged(run, parts, tmp_path):
    first, second, _ = parts
    scq.Reference.load(second).save(tmp_path / "second.zip")
    assert run("merge", first, tmp_path / "second.zip", "-o", tmp_path / "both.zip").code == 0
    n = sum(scq.Reference.load(path).n_obs for path in (first, second))
    assert scq.Reference.load(tmp_path / "both.zip").n_obs == n


def test_a_dry_run_writes_nothing(run, parts):
    first, second, third = parts
    before = {p: p.stat().st_mtime_ns for part in parts for p in part.iterdir()}
    done = run("merge", first, second, third, "--dry-run")
    assert done.code == 0
    assert re.match(r"would merge in \d+ cells; the reference would have 240 cells of 4 types", done.out)
    assert done.out.splitlines()[-1] == "nothing was written (--dry-run)"
    assert {p: p.stat().st_mtime_ns for part in parts for p in part.iterdir()} == before
    assert run("merge", first, second, "--dry-run", "--json").json["output"] is None
    nowhere = first.parent / "nowhere" / "x.scq"
    run("merge", first, second, "--dry-run", "-o", nowhere).is_one_line(1, r"there is no folder .*nowhere")


def test_an_existing_reference_is_kept_by_default(run, parts, tmp_path):
    first, second, third = parts
    shutil.copytree(third, tmp_path / "there.scq")
    n = scq.Reference.load(third).n_obs
    asked = ("merge", first, second, "-o", tmp_path / "there.scq")
    run(*asked).is_one_line(1, r"There is already a reference at .*there.scq. Pass --overwrite")
    assert scq.Reference.load(tmp_path / "there.scq").n_obs == n
    assert run(*asked, "--overwrite").code == 0
    assert scq.Reference.load(tmp_path / "there.scq").n_obs == 240 - n


def test_wrong_usage(run, parts, tmp_path):
    first, second, _ = parts
    either = r"either --output NEW.scq, or --in-place"
    run("merge", first, second).is_wrong_use(either)
    run("merge", first, second, "--in-place", "-o", tmp_path / "x.scq").is_wrong_use(either)
    run("merge", first, "--in-place").is_wrong_use(r"Missing argument 'OTHER")
    twice = r"first.scq is given twice, so its cells would be in the result twice. Give each reference once"
    run("merge", first, second, first, "--in-place").is_wrong_use(twice)
    run("merge", second, first, first.parent / "." / "first.scq", "--dry-run").is_wrong_use(twice)


def test_what_cannot_be_merged(run, parts, foreign, tmp_path):
    first, second, third = parts
    n = scq.Reference.load(first).n_obs
    shutil.copytree(second, tmp_path / "again.scq")
    asked = ("merge", first, second)
    run(*asked, foreign, "--in-place").is_one_line(
        1,
        r"foreign.scq cannot be merged: `scquery-ae merge` needs two references made with one encoder: .*"
        r"add the cells of the other reference from their counts with `scquery-ae add`\.",
    )
    run(*asked, tmp_path / "again.scq", "--in-place").is_one_line(
        1, r"again.scq cannot be merged: \d+ cells are in both references, such as 'cell.*Remove them from one first"
    )
    run(*asked, "-o", second).is_one_line(1, r"second.scq is an input. Choose another place")
    run(*asked, tmp_path / "no.scq", "--in-place").is_one_line(3, r"There is no reference at .*no.scq")
    (third / "manifest.json").write_text("{}")
    run(*asked, third, "--in-place").is_one_line(3, r"manifest.json cannot be read as the manifest of a reference")
    # Nothing is written before all are in.
    assert scq.Reference.load(first).n_obs == n
