"""Results of ``check``, ``info`` and ``demo``, as text and as JSON."""

import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae import _demo


def test_check_prints_the_report_of_the_call(run, query_file, saved_reference, make_adata):
    adata = make_adata(30, 120, seed=2)
    expected = scq.pp.check(adata, saved_reference)
    assert run("check", query_file, saved_reference).out == f"{expected}\n"
    found = run("check", query_file, saved_reference, "--json").json
    assert list(found) == [
        *("command", "scquery_ae", "cells", "reference"),
        *("n_obs", "genes", "important_missing", "source", "input_state", "reason", "counts", "reference_counts"),
        *("detected", "reference_detected", "species", "reference_species", "empty", "expected_accuracy", "problems"),
        *("enough_genes", "warnings"),
    ]
    for name in ("n_obs", "genes", "input_state", "counts", "species"):
        assert found[name] == getattr(expected, name)
    assert found["expected_accuracy"]["macro_f1"] == pytest.approx(expected.expected_accuracy.macro_f1)
    assert found["enough_genes"] is True
    assert run("check", query_file, saved_reference, "--no-simulate", "--json").json["expected_accuracy"] is None


def test_check_exits_with_4_where_a_query_would_be_refused(run, make_adata, saved_reference, tmp_path):
    make_adata(10, 120)[:, :5].copy().write_h5ad(tmp_path / "few.h5ad")
    for options, code in (((), 4), (("--min-gene-overlap", "0.01"), 0)):
        checked = run("check", tmp_path / "few.h5ad", saved_reference, *options)
        asked = run("query", tmp_path / "few.h5ad", saved_reference, "-o", tmp_path / f"{code}.csv", *options)
        assert checked.code == asked.code == code
        assert "model genes" in checked.out
    refused = run("check", tmp_path / "few.h5ad", saved_reference, "--json")
    assert refused.json["enough_genes"] is False
    assert len(refused.err.splitlines()) == 1
    assert "--min-gene-overlap is 0.1: a query would refuse these cells" in refused.err


def test_strict_check_fails_on_problems(run, query_file, make_adata, saved_reference, tmp_path):
    assert run("check", query_file, saved_reference, "--strict").code == 0
    adata = make_adata(10, 120)
    adata.obs_names = ["a", "a", *adata.obs_names[2:]]
    adata.write_h5ad(tmp_path / "repeats.h5ad")
    assert run("check", tmp_path / "repeats.h5ad", saved_reference).code == 0
    failed = run("check", tmp_path / "repeats.h5ad", saved_reference, "--strict")
    assert failed.code == 5
    assert "cell names repeat; pass `--make-unique`" in failed.out
    assert failed.err == "Error: --strict: there is something to look at (1).\n"
    assert run("check", tmp_path / "repeats.h5ad", saved_reference, "--strict", "--make-unique").code == 0


def test_info_counts_the_contents_of_the_reference(run, saved_reference, reference):
    found = run("info", saved_reference, "--json").json
    assert list(found) == [
        *("command", "scquery_ae", "path", "sha256", "n_obs", "n_unlabelled", "label_key", "types", "genes", "layers"),
        *("calibration", "depth", "index", "columns", "provenance", "training", "warnings"),
    ]
    labels = reference.obs["cell_type"]
    assert found["n_obs"] == 240
    assert found["n_unlabelled"] == int(labels.isna().sum()) == 24
    for row in found["types"]:
        assert row["n_cells"] == int((labels == row["label"]).sum())
        assert row["n_held_out"] == int((labels[reference.cells.held_out] == row["label"]).sum())
        assert row["trained"]
    assert found["genes"]["names"] == list(reference.encoder.genes)
    assert found["layers"] == [16, 8]
    assert found["calibration"] == {"method": "held_out", "n_cells": int(reference.cells.held_out.sum())}
    columns = {column["name"]: column for column in found["columns"]}
    assert columns["batch"] == {"name": "batch", "n_values": 2, "values": ["batch 0", "batch 1"]}
    assert columns["quality"] == {"name": "quality", "n_values": 240, "values": []}
    assert found["training"]["finetune"]["label_key"] == "cell_type"


def test_info_is_readable(run, saved_reference):
    shown = run("info", saved_reference)
    assert (shown.code, shown.err) == (0, "")
    assert "100 -> 16 -> 8" in shown.out
    assert "240, 24 without a label" in shown.out
    assert any(line.split() == ["batch", "batch", "0,", "batch", "1"] for line in shown.out.splitlines())


def test_the_demo_prints_its_table_as_json_too(run, tmp_path, monkeypatch):
    rows = pd.DataFrame({"method": ["a"], "seed": [0], "accuracy": [0.5], "macro-F1": [float("nan")]})

    def stand_in(output, *, n_seeds, echo):
        echo(f"{n_seeds} seeds into {output.name}")
        return rows

    monkeypatch.setattr(_demo, "run_demo", stand_in)
    assert run("demo", "-o", tmp_path / "here", "--seeds", 2).out == "2 seeds into here\n"
    done = run("demo", "-o", tmp_path / "here", "--json")
    assert done.err == ""
    assert done.json["rows"] == [{"method": "a", "seed": 0, "accuracy": 0.5, "macro-F1": None}]
    assert done.json["outputs"][0] == str(tmp_path / "here" / "query.h5ad")
    run("demo", "--seeds", 0).is_wrong_use("0 is not in the range 1<=x<=50")


def test_the_demo_into_a_file_is_one_line(run, tmp_path):
    (tmp_path / "taken").write_text("")
    run("demo", "-o", tmp_path / "taken" / "out").is_one_line(1, r"cannot write to .*taken.*`--output`")
