"""A bundle of an earlier version can be read, gives the same answers, and is not changed."""

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
    """The functions of the script that made the bundle."""
    return runpy.run_path(str(MAKER))


@pytest.fixture(scope="module")
def written():
    return json.loads((GOLDEN / "answers.json").read_text(encoding="utf-8"))


def folder_state():
    """Return the checksum and the modification time of each file."""
    files = sorted(file for file in GOLDEN.rglob("*") if file.is_file())
    return {
        str(file.relative_to(GOLDEN)): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in files
    }


@pytest.fixture(autouse=True)
def unchanged():
    """Check that no test writes to the folder."""
    before = folder_state()
    yield
    assert folder_state() == before


def test_bundle_is_the_one_that_answers_were_recorded_for(written):
    """Another bundle needs other answers, and a reason: a new version of the format."""
    assert digest(GOLDEN / "small.scq") == written["digest"]
    assert json.loads((GOLDEN / "small.scq" / "manifest.json").read_text())["format_version"] == 1
    assert sum(file.stat().st_size for file in GOLDEN.rglob("*") if file.is_file()) < 150_000


@pytest.mark.parametrize("name", ["small.scq", "small.zip"])
@pytest.mark.parametrize("genes", ["all genes", "fewer genes"])
def test_answers_are_the_recorded_ones(maker, written, name, genes):
    cells = maker["queries"](written["counts"])[genes]
    assert cells.n_vars == (32 if genes == "all genes" else 24)
    found, expected = maker["answers"](cells, scq.Reference.load(GOLDEN / name)), written["answers"][genes]
    assert set(found) == set(expected)
    for slot in ("label", "prediction_set", "unknown", "neighbors"):
        assert found[slot] == expected[slot], slot
    for slot in ("confidence", "pvalue", "distances", "embedding"):
        np.testing.assert_allclose(found[slot], expected[slot], rtol=0, atol=CLOSE, err_msg=slot)
    np.testing.assert_allclose(found["novelty"], expected["novelty"], rtol=CLOSE, atol=CLOSE)


def test_recorded_answers_are_varied(written):
    """Otherwise some changes would not show."""
    one, other = written["answers"].values()
    assert len(set(one["label"])) == 4
    assert one["label"] != other["label"]
    assert {True, False} == set(one["unknown"])
    assert len(set(one["pvalue"])) > 5
    assert {1, 2} <= {len(names.split("|")) for names in one["prediction_set"]}
    assert len({row for neighbors in one["neighbors"] for row in neighbors}) > 20
    assert 0.5 < written["expected_accuracy"]["macro_f1"] < 1


@pytest.mark.parametrize("name", ["small.scq", "small.zip"])
def test_contents_are_the_recorded_ones(written, name):
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


def test_it_can_be_edited_and_saved_elsewhere(tmp_path):
    reference = scq.Reference.load(GOLDEN / "small.scq")
    reference.save(tmp_path / "same.scq")
    # Bytes may differ: other versions of pyarrow write tables that are read the same.
    same = scq.Reference.load(tmp_path / "same.scq")
    pd.testing.assert_frame_equal(same.obs, reference.obs)
    for cells_of_same, array in zip(same.cells.arrays.values(), reference.cells.arrays.values(), strict=True):
        np.testing.assert_array_equal(cells_of_same, array)
    reference.relabel({"γδ T cell": "T cell"})
    reference.remove(reference.obs.index[:10])
    reference.save(tmp_path / "a.scq")
    assert scq.Reference.load(tmp_path / "a.scq").n_obs == 90


def test_a_copy_can_be_overwritten(maker, written, tmp_path):
    copy = shutil.copytree(GOLDEN / "small.scq", tmp_path / "copy.scq")
    reference = scq.Reference.load(copy)
    reference.relabel({"B cell": "B"})
    reference.save(copy, overwrite=True)
    found = maker["answers"](maker["queries"](written["counts"])["all genes"], copy)
    expected = written["answers"]["all genes"]
    assert found["label"] == [name.replace("B cell", "B") for name in expected["label"]]
    assert found["neighbors"] == expected["neighbors"]


def test_the_script_makes_such_a_bundle(maker, tmp_path):
    """Its numbers may differ: other versions of NumPy may draw other random numbers."""
    maker["make"](tmp_path)
    again = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert {file.name for file in tmp_path.iterdir()} == {"answers.json", "small.scq", "small.zip"}
    assert set(again["answers"]) == {"all genes", "fewer genes"}
    assert digest(tmp_path / "small.scq") == again["digest"]
