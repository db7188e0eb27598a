"""``pp.align_genes``: cells with the model genes of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._caller import running
from scquery_ae._checks import check_adata, check_layer, check_number
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.genes import match_genes, require_overlap
from scquery_ae.input_state import check_expression
from scquery_ae.loaders import GeneColumns, gene_names
from scquery_ae.reference import Reference

if TYPE_CHECKING:
    from anndata import AnnData


@shared_parameters
def align_genes(
    adata: AnnData,
    reference: Reference | Encoder,
    *,
    layer: str | None = None,
    gene_key: str | None = None,
    min_gene_overlap: float = 0.1,
) -> AnnData:
    """Return the cells with the model genes of a reference, in the order of the reference.

    :func:`scquery_ae.tl.query` and :func:`scquery_ae.tl.embed` align genes themselves. Use this to look at the values,
    or for other methods.

    Parameters
    ----------
    adata
        Cells, ``(n_obs, n_vars)``. They are not changed.
    reference
        Reference or encoder with the model genes.
    layer
        Layer to read. None reads ``X``.
    %(gene_key)s
    %(min_gene_overlap)s

    Returns
    -------
    A new AnnData ``(n_obs, n_genes)`` with CSR float32 ``X`` (zero for missing genes), the ``obs`` of `adata`, and

    ``var["present"]`` : bool
        Whether `adata` has the gene.

    Raises
    ------
    GeneOverlapError
        If the cells have a smaller fraction of the model genes than `min_gene_overlap`.
    InputStateError
        If values are NaN, infinite or not numbers.
    """
    import anndata
    import pandas as pd

    check_adata(adata, "pp.align_genes")
    if not isinstance(reference, Reference | Encoder):
        msg = f"{running('pp.align_genes')} needs a reference or an encoder. Received {type(reference).__name__}."
        raise ArgumentError(msg)
    check_number("min_gene_overlap", min_gene_overlap, 0, 1)
    genes = reference.genes if isinstance(reference, Encoder) else reference.encoder.genes
    match = match_genes(genes, gene_names(adata, gene_key))
    require_overlap(match, min_gene_overlap)
    matrix = check_layer(adata, layer)
    check_expression(matrix, adata.var_names, "pp.align_genes")
    cells = GeneColumns(matrix, match.columns)
    var = pd.DataFrame({"present": match.columns >= 0}, index=np.asarray(genes).astype(str))
    obs = adata.obs.copy()
    obs.index = obs.index.astype(str)
    aligned = anndata.AnnData(cells.load(), obs=obs, var=var)
    logger.info(
        "aligned %d cells: %s; returned a new AnnData with X and var['present'], and wrote nothing into the AnnData "
        "that was given",
        adata.n_obs,
        match,
    )
    return aligned
