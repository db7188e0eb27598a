"""Fixtures of the plot tests."""

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def no_screen():
    """Draw without a screen, and close all figures after each test."""
    before = mpl.get_backend()
    plt.switch_backend("Agg")
    plt.close("all")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture
def scanpy_settings():
    """``scanpy_settings(figdir=..., autoshow=...)``: change scanpy's settings for one test."""
    import scanpy as sc

    # The settings are a class with properties, which monkeypatch does not restore.
    before = {name: getattr(sc.settings, name) for name in ("figdir", "autoshow", "file_format_figs")}

    def put(**values):
        for name, value in values.items():
            setattr(sc.settings, name, value)

    yield put
    put(**before)
