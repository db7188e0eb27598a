"""A bundle from an earlier time: it is read, answers as it did, and stays what it was."""

import hashlib
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.reference import digest, simulate_query

GOLDEN = Path(__file__).with_name("golden")
MAKER = Path(__file__).with_name("make_golden.py")
CLOSE = 1e-5


@pytest.fixture(scope="module")
def maker():
    """The functions of the script that made it; it makes nothing when it is read."""
    return runpy.run_path(str(MAKER))


@pytest.fixture(scope="module")
def written():
    return json.loads((GOLDEN / "answers.json").read_text(encoding="utf-8"))


def contents():
    """Names, bytes and times of change of all that lies there."""
    files = sorted(file for file in GOLDEN.rglob("*") if file.is_file())
    return {
        str(file.relative_to(GOLDEN)): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in files
    }


@pytest.fixture(autouse=True)
def untouched():
    """Whatever a test does, nothing there is written."""
    before = contents()
    yield
    assert contents() == before


def test_it_is_the_one_that_was_written_down(written):
    """Another bundle needs other answers, and a reason: the format's next version."""
    assert digest(GOLDEN / "small.scq") == written["digest"]
    assert json.loads((GOLDEN / "small.scq" / "manifest.json").read_text())["format_version"] == 1
    assert sum(file.stat().st_size for file in GOLDEN.rglob("*") if file.is_file()) < 150_000


@pytest.mark.parametrize("name", ["small.scq", "small.zip"])
@pytest.mark.parametrize("genes", ["all genes", "fewer genes"])
def test_it_answers_as_it_did(maker, written, name, genes):
    cells = maker["queries"](written["counts"])[genes]
    assert cells.n_vars == (32 if genes == "all genes" else 24)
    found, expected = maker["answers"](cells, scq.Reference.load(GOLDEN / name)), written["answers"][genes]
    assert set(found) == set(expected)
    for what in ("label", "prediction_set", "unknown", "neighbors"):
        assert found[what] == expected[what], what
    for what in ("confidence", "pvalue", "distances", "embedding"):
        np.testing.assert_allclose(found[what], expected[what], rtol=0, atol=CLOSE, err_msg=what)


def test_the_answers_say_something(written):
    """Of several kinds, so that a change of any would show."""
    one, other = written["answers"].values()
    assert len(set(one["label"])) == 4
    assert one["label"] != other["label"]
    assert {True, False} == set(one["unknown"])
    assert len(set(one["pvalue"])) > 5
    assert {1, 2} <= {len(names.split("|")) for names in one["prediction_set"]}
    assert len({hit for neighbors in one["neighbors"] for hit in neighbors}) > 20


@pytest.mark.parametrize("name", ["small.scq", "small.zip"])
def test_it_holds_what_it_held(written, name):
    reference = scq.Reference.load(GOLDEN / name)
    assert repr(reference) == written["repr"]
    assert reference.types == ("B cell", "NK cell", "T cell", "γδ T cell")
    assert reference.obs["cell_type"].isna().sum() == 6
    assert list(reference.obs.columns) == ["cell_type", "batch", "n_counts", "scquery_split"]
    assert reference.encoder.history == {"finetune": {"loss": [1.5, 0.25]}}
    assert reference.calibration.method == "held_out"
    expected_accuracy = simulate_query(reference)
    assert expected_accuracy.n_cells == written["expected_accuracy"]["n_cells"]
    assert expected_accuracy.accuracy == pytest.approx(written["expected_accuracy"]["accuracy"], abs=CLOSE)
    assert expected_accuracy.macro_f1 == pytest.approx(written["expected_accuracy"]["macro_f1"], abs=CLOSE)


def test_it_can_be_changed_and_saved_elsewhere(tmp_path):
    reference = scq.Reference.load(GOLDEN / "small.scq")
    reference.save(tmp_path / "same.scq")
    # Not byte by byte: other versions of pyarrow write tables that read the same.
    same = scq.Reference.load(tmp_path / "same.scq")
    pd.testing.assert_frame_equal(same.obs, reference.obs)
    np.testing.assert_array_equal(same.embedding, reference.embedding)
    reference.relabel({"γδ T cell": "T cell"})
    reference.remove(reference.obs.index[:10])
    reference.save(tmp_path / "a.scq")
    assert scq.Reference.load(tmp_path / "a.scq").n_obs == 90


def test_a_copy_can_be_replaced_by_what_today_s_code_writes(maker, written, tmp_path):
    copy = shutil.copytree(GOLDEN / "small.scq", tmp_path / "copy.scq")
    reference = scq.Reference.load(copy)
    reference.relabel({"B cell": "B"})
    reference.save(copy, overwrite=True)
    found = maker["answers"](maker["queries"](written["counts"])["all genes"], copy)
    expected = written["answers"]["all genes"]
    assert found["label"] == [name.replace("B cell", "B") for name in expected["label"]]
    assert found["neighbors"] == expected["neighbors"]


def test_the_script_makes_such_a_bundle(maker, tmp_path):
    """So that there can be a next one; random streams and packages may be others than they were."""
    maker["make"](tmp_path)
    again = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert {file.name for file in tmp_path.iterdir()} == {"answers.json", "small.scq", "small.zip"}
    assert set(again["answers"]) == {"all genes", "fewer genes"}
    assert digest(tmp_path / "small.scq") == again["digest"]
