"""Plots are drawn without a screen, and no test leaves a figure to the next."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def no_screen():
    before = mpl.get_backend()
    plt.switch_backend("Agg")
    plt.close("all")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture
def scanpy_settings():
    """``scanpy_settings(figdir=..., autoshow=...)``: set for this test alone."""
    import scanpy as sc

    # Its settings are a class with properties, which monkeypatch does not put back.
    before = {name: getattr(sc.settings, name) for name in ("figdir", "autoshow", "file_format_figs")}

    def put(**values):
        for name, value in values.items():
            setattr(sc.settings, name, value)

    yield put
    put(**before)


@pytest.fixture
def make_judged():
    """``make_judged(n, n_types, names)``: cells as after a query, a truth, donors and neighbors in a reference of them."""

    def make(n=200, n_types=4, names="type {}", seed=0):
        rng = np.random.default_rng(seed)
        types = [names.format(i) for i in range(n_types)]
        truth = rng.permutation(np.arange(n) % n_types)
        wrong = rng.random(n) < 0.2
        label = np.where(wrong, (truth + rng.integers(1, n_types, n)) % n_types, truth)
        pvalue = rng.random(n).round(2).astype(np.float32)
        obs = pd.DataFrame(
            {
                "truth": pd.Categorical.from_codes(truth, types),
                "donor": pd.Categorical.from_codes(rng.integers(0, 3, n), ["donor a", "donor b", "donor c"]),
                "scquery_label": pd.Categorical.from_codes(label, types),
                "scquery_confidence": np.where(wrong, rng.beta(4, 3, n), rng.beta(8, 2, n)).astype(np.float32),
                "scquery_pvalue": pvalue,
                "scquery_unknown": pvalue <= 0.1,
            },
            index=[f"cell{i}" for i in range(n)],
        )
        adata = AnnData(np.ones((n, 2), np.float32), obs=obs)
        adata.obsm["scquery_neighbors"] = rng.integers(0, n, (n, 5))
        adata.obsm["X_umap"] = rng.normal(size=(n, 2)) + 8 * np.c_[truth % 3, truth // 3]
        return adata

    return make


@pytest.fixture
def judged(make_judged):
    return make_judged()
