"""Stimulated and unstimulated PBMC of Kang et al., from the repository of scgen."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from scquery_ae.datasets.counts import recover_counts
from scquery_ae.datasets.files import DataFile, fetch

if TYPE_CHECKING:
    from anndata import AnnData

FILE = DataFile(
    name="pbmc_kang_scgen_valid.h5ad",
    url="https://raw.githubusercontent.com/theislab/scgen/dd7e178f9b42b9dfef9eb18d0da4b8e3caea4cf7/data/valid.h5ad",
    sha256="83f89f5356a4c01f65bbcee225eb45d8d8b13b6c962724431a26c1bf568ff09e",
)


def pbmc_kang() -> AnnData:
    """Return counts and cell types of 1,975 PBMC, 1,039 of them stimulated with interferon-β.

    The cells are a subset of those of Kang et al., from the repository of scgen. The first call downloads the file
    (2.3 MB) into the folder that the environment variable ``SCQUERY_AE_DATA`` names, or else into
    ``scanpy.settings.datasetdir``. Without a network, put the file into that folder as ``pbmc_kang_scgen_valid.h5ad``.
    The file holds log-normalised values. This function recovers the counts and checks that they are whole numbers.

    Returns
    -------
    AnnData ``(1975, 6998)`` with

    ``X`` : CSR float32
        UMI counts (10x). Their sum is below the library size of a cell, because the file lacks part of the genes.
    ``obs["cell_type"]`` : categorical
        Seven types, named as in scgen.
    ``obs["condition"]`` : categorical
        ``"control"`` or ``"stimulated"``.
    ``obs["study"]`` : categorical
        ``"Kang"`` for every cell.

    Raises
    ------
    DatasetError
        If the file cannot be downloaded, or its SHA-256 is not the expected one.

    References
    ----------
    Kang et al., Nature Biotechnology 36, 89 (2018); GEO GSE96583. Lotfollahi et al., Nature Methods 16, 715 (2019).
    """
    import anndata
    import pandas as pd

    path = fetch(FILE)
    with warnings.catch_warnings():
        # The file has an old AnnData format; reading it warns.
        warnings.simplefilter("ignore")
        source = anndata.read_h5ad(path)
    counts = recover_counts(
        source.X,
        source.obs["n_counts"],
        1832.5,
        tolerance=0.01,
        source=str(path),
        remedy="Remove the file; the next call downloads it again.",
    )
    return anndata.AnnData(
        counts,
        obs=pd.DataFrame(
            {
                "cell_type": pd.Categorical(source.obs["cell_type"].astype(str)),
                "condition": pd.Categorical(source.obs["condition"].astype(str)),
                "study": pd.Categorical(["Kang"] * source.n_obs),
            },
            index=source.obs_names.astype(str),
        ),
        var=pd.DataFrame(index=source.var_names.astype(str)),
    )
