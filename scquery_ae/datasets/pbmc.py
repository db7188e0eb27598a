"""700 PBMC from scanpy's own wheel."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scquery_ae._errors import DatasetError

if TYPE_CHECKING:
    from anndata import AnnData

#: Counts a cell was scaled to before the logarithm.
_TARGET_SUM = 1e4


def pbmc68k_reduced() -> AnnData:
    """Return 700 peripheral blood mononuclear cells, 765 genes, as counts with cell types.

    A subset of the 68,579 PBMC of Zheng et al., which scanpy carries in its wheel: no network is needed. scanpy has
    them log-normalised; the counts are whole numbers again after undoing the logarithm and the scaling to 10,000,
    which is checked.

    Returns
    -------
    AnnData ``(700, 765)`` with

    ``X`` : CSR float32
        Counts. They add up to less than the cells' library sizes, since the other genes were left out.
    ``obs["cell_type"]`` : categorical
        Ten types, by correlation with bead-purified PBMC.
    ``obs["study"]`` : categorical
        ``"Zheng68k"`` for all.

    Raises
    ------
    DatasetError
        If the installed scanpy carries other values than expected.

    References
    ----------
    Zheng et al., Nature Communications 8, 14049 (2017).

    Examples
    --------
    >>> import scquery_ae as scq
    >>> scq.datasets.pbmc68k_reduced().shape
    (700, 765)
    """
    import anndata
    import pandas as pd
    import scanpy as sc

    with warnings.catch_warnings():
        # The file is of an old AnnData format; reading it says so.
        warnings.simplefilter("ignore")
        source = sc.datasets.pbmc68k_reduced()
    logged = sparse.csr_matrix(source.raw.X)
    library = np.repeat(source.obs["n_counts"].to_numpy(dtype=np.float64), np.diff(logged.indptr))
    counts = np.expm1(logged.data.astype(np.float64)) * library / _TARGET_SUM
    whole = np.round(counts)
    if np.abs(counts - whole).max() > 0.2 or whole.min() < 1:
        msg = (
            "The PBMC in the installed scanpy cannot be turned back to counts: undoing log1p and the scaling to 10,000 "
            "gives no whole numbers. Install scanpy 1.10 or 1.11."
        )
        raise DatasetError(msg)
    return anndata.AnnData(
        sparse.csr_matrix((whole.astype(np.float32), logged.indices, logged.indptr), shape=logged.shape),
        obs=pd.DataFrame(
            {
                "cell_type": source.obs["bulk_labels"].astype("category"),
                "study": pd.Categorical(["Zheng68k"] * source.n_obs),
            },
            index=source.obs_names.astype(str),
        ),
        var=pd.DataFrame(index=source.raw.var_names.astype(str)),
    )
