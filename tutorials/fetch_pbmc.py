"""Download the public data of ``pbmc.ipynb`` and write it into a folder as three ``.h5ad`` files.

    pip install rdata
    python fetch_pbmc.py pbmc              # 8.6 MB, a minute
    export SCQUERY_AE_PBMC=$PWD/pbmc

Two of the originals are data files of R packages, which rdata reads without R. Each download is checked by its SHA-256
and kept in ``data`` (scanpy's dataset folder). On a machine without a network, put the originals into a folder under
the names below, and set the environment variable ``SCQUERY_AE_DATA`` to this folder. muscat names the genes of Kang by
Ensembl ids; ``kang_genes.csv`` has their symbols (GENCODE 44).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import rdata
from rdata.parser import RObject, RObjectType
from scipy import sparse

from scquery_ae.datasets import kang
from scquery_ae.datasets.files import DataFile, fetch

GITHUB = "https://raw.githubusercontent.com"
MUSCAT = DataFile(
    "muscat_kang_se.rda",
    f"{GITHUB}/HelenaLC/muscat/d5acab66a2468bb51368f527b6cd617de8253a67/data/kang_se.rda",
    "f2d6728424b2d40a88ee6c6c2a1f543e9dc798e98990c4f11b5a625470ffe285",
)
MUDAN_COUNTS = DataFile(
    "mudan_referenceCounts.rda",
    f"{GITHUB}/JEFworks/MUDAN/3636ed2f9a404cbdfcfdce5500384b59a72de666/data/referenceCounts.rda",
    "d44df269ab223db35a3ac0f46a08f623b61ffd46f44f110b34910724b932a8d6",
)
MUDAN_TYPES = DataFile(
    "mudan_referenceAnnot.rda",
    f"{GITHUB}/JEFworks/MUDAN/3636ed2f9a404cbdfcfdce5500384b59a72de666/data/referenceAnnot.rda",
    "72ac3b67cb1f831c23a9ecc094451d93901a8f2ba30fa1089704482e5cb76865",
)


def unstimulated() -> ad.AnnData:
    """Return Kang's unstimulated cells of eight donors, ``(12261, 1287)``, with counts."""
    # A SummarizedExperiment stores its matrix in an R environment together with code. Read the matrix only.
    parsed = rdata.parser.parse_file(fetch(MUSCAT))
    slots = named(dict(entries(parsed.object))["kang_se"].attributes)
    environment = named(slots["assays"].attributes)[".xData"].value
    held = {name: value for bucket in environment.hash_table.value for name, value in entries(bucket)}
    matrix = named(held[".->data"].attributes)["listData"].value[0]
    n_genes, n_cells = named(matrix.attributes)["dim"].value
    # R stores matrices by columns, which are the cells here.
    counts = np.asarray(matrix.value).reshape(n_cells, n_genes)

    annotation = named(slots["colData"].attributes)
    listed = annotation["listData"]
    columns = dict(zip(strings(named(listed.attributes)["names"]), listed.value, strict=True))
    levels = np.array(strings(named(columns["cluster_id"].attributes)["levels"]))
    ensembl = strings(slots["NAMES"])
    symbols = pd.read_csv(Path(__file__).with_name("kang_genes.csv"), index_col="ensembl")["symbol"]
    return cells(
        counts,
        {
            "cell_type": levels[np.asarray(columns["cluster_id"].value) - 1],
            "batch": [f"donor{number}" for number in columns["sample_id"].value],
        },
        strings(annotation["rownames"]),
        symbols[ensembl].tolist(),
    )


def purified() -> ad.AnnData:
    """Return Zheng's bead-sorted cells, ``(2140, 8863)``, with counts."""
    table = rdata.read_rda(fetch(MUDAN_COUNTS))["referenceCounts"]
    types = np.asarray(rdata.read_rda(fetch(MUDAN_TYPES))["referenceAnnot"]).astype(str)
    genes, barcodes = (table.coords[name].to_numpy().astype(str) for name in table.dims)
    return cells(table.to_numpy().T, {"cell_type": types}, barcodes, genes)


def stimulated() -> ad.AnnData:
    """Return Kang's cells with and without interferon, ``(1975, 6998)``, log-normalised as scgen has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file has an old AnnData format
        source = ad.read_h5ad(fetch(kang.FILE))
    columns = {name: source.obs[name].astype(str) for name in ("cell_type", "condition")}
    return cells(source.X, columns, source.obs_names, source.var_names)


def cells(values: Any, columns: dict[str, Any], names: Any, genes: Any) -> ad.AnnData:
    """Return an AnnData with cells in rows and categorical columns in ``obs``."""
    obs = pd.DataFrame({name: pd.Categorical(column) for name, column in columns.items()}, index=list(names))
    matrix = sparse.csr_matrix(values, dtype=np.float32)
    matrix.sort_indices()
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(genes)))


def entries(pairs: RObject | None) -> Iterator[tuple[str, RObject]]:
    """Yield the names and values of an R pairlist."""
    while pairs is not None and pairs.info.type is RObjectType.LIST:
        value, rest = pairs.value
        yield string(resolved(pairs.tag).value), resolved(value)
        pairs = rest


def named(pairs: RObject) -> dict[str, RObject]:
    """Return the attributes of an R object, which are a pairlist, by name."""
    return dict(entries(pairs))


def resolved(found: RObject) -> RObject:
    """Return the object that an R reference points to, or the object itself."""
    return found.referenced_object if found.info.type is RObjectType.REF else found


def strings(vector: RObject) -> list[str]:
    """Return the strings of an R character vector."""
    return [string(element) for element in vector.value]


def string(element: RObject) -> str:
    """Return one R string."""
    return element.value.decode()


def main() -> None:
    """Write the files into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit(f"{__doc__}\nName one folder to write to; received {sys.argv[1:] or 'none'}.")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "pbmc_kang_ctrl_8donor.h5ad": unstimulated,
        "pbmc_zheng_sorted_mudan.h5ad": purified,
        "pbmc_kang_stim_scgen_valid.h5ad": stimulated,
    }
    for name, make in made.items():
        adata = make()
        adata.write_h5ad(folder / name, compression="gzip")
        sys.stdout.write(f"{folder / name}: {adata.n_obs} cells, {adata.n_vars} genes\n")


if __name__ == "__main__":
    main()
