"""PBMC with and without interferon, of Kang et al., as the repository of scgen has them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scquery_ae._errors import DatasetError
from scquery_ae.datasets.files import DataFile, fetch

if TYPE_CHECKING:
    from anndata import AnnData

FILE = DataFile(
    name="pbmc_kang_scgen_valid.h5ad",
    url="https://raw.githubusercontent.com/theislab/scgen/dd7e178f9b42b9dfef9eb18d0da4b8e3caea4cf7/data/valid.h5ad",
    sha256="83f89f5356a4c01f65bbcee225eb45d8d8b13b6c962724431a26c1bf568ff09e",
)
#: Counts a cell was scaled to before the logarithm.
_TARGET_SUM = 1832.5


def pbmc_kang() -> AnnData:
    """Return 1,975 PBMC, 1,039 of them stimulated with interferon-β, as counts with cell types.

    A part of the cells of Kang et al., from the repository of scgen (2.3 MB). The first call fetches the file into
    scanpy's folder of datasets, ``scanpy.settings.datasetdir``; without a network, name a folder that holds it as
    ``pbmc_kang_scgen_valid.h5ad`` in the environment variable ``SCQUERY_AE_DATA``. Its values are log-normalised; the
    counts are whole numbers again after undoing the logarithm and the scaling, which is checked.

    Returns
    -------
    AnnData ``(1975, 6998)`` with

    ``X`` : CSR float32
        UMI counts (10x). They add up to less than the cells' library sizes, since the other genes were left out.
    ``obs["cell_type"]`` : categorical
        Seven types, by their names in scgen.
    ``obs["condition"]`` : categorical
        ``"control"`` or ``"stimulated"``.
    ``obs["study"]`` : categorical
        ``"Kang"`` for all.

    Raises
    ------
    DatasetError
        If the file cannot be fetched, is not in the folder named, or is not the one expected.

    References
    ----------
    Kang et al., Nature Biotechnology 36, 89 (2018); GEO GSE96583. Lotfollahi et al., Nature Methods 16, 715 (2019).
    """
    import anndata
    import pandas as pd

    path = fetch(FILE)
    with warnings.catch_warnings():
        # The file is of an old AnnData format; reading it says so.
        warnings.simplefilter("ignore")
        source = anndata.read_h5ad(path)
    logged = sparse.csr_matrix(source.X)
    library = np.repeat(source.obs["n_counts"].to_numpy(dtype=np.float64), np.diff(logged.indptr))
    counts = np.expm1(logged.data.astype(np.float64)) * library / _TARGET_SUM
    whole = np.round(counts)
    if np.abs(counts - whole).max() > 0.01 or whole.min() < 1:
        msg = (
            f"{path} cannot be turned back to counts: undoing log1p and the scaling to {_TARGET_SUM} gives no whole "
            "numbers. Remove it; the next call fetches it again."
        )
        raise DatasetError(msg)
    return anndata.AnnData(
        sparse.csr_matrix((whole.astype(np.float32), logged.indices, logged.indptr), shape=logged.shape),
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
