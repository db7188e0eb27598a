"""The demo, and the set-up script that runs it."""

import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae import _demo

ROOT = Path(__file__).parents[2]


def test_demo_writes_its_files_and_beats_the_majority(tmp_path):
    lines: list[str] = []
    table = _demo.run_demo(tmp_path / "out", n_seeds=1, echo=lines.append)

    assert table["method"].tolist() == ["scquery_ae", "PCA(50) + kNN(15)"]
    cells = anndata.read_h5ad(tmp_path / "out" / "query.h5ad")
    correct = (cells.obs["scquery_label"].astype(str) == cells.obs["cell_type"].astype(str)).mean()
    majority = cells.obs["cell_type"].value_counts(normalize=True).iloc[0]
    assert table["accuracy"][0] == pytest.approx(correct)
    assert correct > majority + 0.2
    assert scq.Reference.load(tmp_path / "out" / "pbmc.scq").n_obs + cells.n_obs == 700
    assert (tmp_path / "out" / "query.png").read_bytes().startswith(b"\x89PNG")
    for name in ("query.h5ad", "pbmc.scq", "query.png"):
        assert any(str(tmp_path / "out" / name) in line for line in lines)


def test_split_is_stratified_and_complete():
    cells = scq.datasets.pbmc68k_reduced()
    training, query = _demo.split(cells, seed=3)
    assert set(training.obs_names) | set(query.obs_names) == set(cells.obs_names)
    assert training.n_obs + query.n_obs == cells.n_obs
    fractions = query.obs["cell_type"].value_counts() / cells.obs["cell_type"].value_counts()
    assert np.all(np.abs(fractions - 0.25) < 0.08)


def test_summary_shows_mean_and_deviation():
    table = pd.DataFrame(
        {"method": ["a", "a"], "seed": [0, 1], "accuracy": [0.8, 0.9], "macro-F1": [0.5, 0.5]},
    )
    text = _demo.summary(table)
    assert "2 seed(s)" in text
    assert "mean ± standard deviation over seeds" in text
    assert "0.850 ± 0.071" in text
    assert "0.500 ± 0.000" in text


def test_setup_script_explains_itself():
    result = subprocess.run([sys.executable, ROOT / "dev.py"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    for command in ("demo", "test", "check"):
        assert f"python dev.py {command}" in result.stdout
