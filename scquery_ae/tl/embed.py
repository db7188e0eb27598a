"""``tl.embed``: codes of cells in ``obsm``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scquery_ae._checks import check_slots
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import open_cells
from scquery_ae.tl._write import write_results

if TYPE_CHECKING:
    from anndata import AnnData


def embed(
    adata: AnnData,
    encoder: Encoder,
    *,
    layer: str | None = None,
    gene_key: str | None = None,
    input_state: str = "auto",
    ignore_case: bool = False,
    orthologs: Mapping[str, str] | None = None,
    min_gene_overlap: float = 0.1,
    key_added: str = "scquery",
) -> None:
    """Embed cells with a trained encoder. Each cell's code depends on that cell alone.

    Parameters
    ----------
    adata
        Cells, ``(n_obs, n_vars)``: counts or log-normalised, dense, sparse, backed or Dask, genes in any order.
    encoder
        From :func:`scquery_ae.tl.pretrain`, fine-tuned or not.
    layer
        Layer to read; None for ``layers["counts"]`` where there is one, else ``X``.
    gene_key
        ``"var_names"`` or a column of ``var`` with the gene names; None for whichever fits best.
    input_state
        ``"counts"`` for any linear scale, ``"log1p"`` for its natural logarithm, ``"log2p1"`` for that to base 2,
        ``"auto"`` to decide from the values.
    ignore_case
        Match gene names that differ in letter case alone, as those of man and mouse do.
    orthologs
        For genes of the query, the names that the reference has for them; others keep theirs.
    min_gene_overlap
        Least share of the model genes that must be there, 0 to 1.
    key_added
        Slot prefix.

    Returns
    -------
    None. Writes

    ``obsm["X_scquery"]`` : float32, ``(n_obs, n_latent)``
        Codes of unit length: Euclidean and cosine neighbours agree.

    Raises
    ------
    GeneOverlapError
        If fewer than `min_gene_overlap` of the model genes are there.
    InputStateError
        If values are scaled, NaN or infinite.
    """
    if not isinstance(encoder, Encoder):
        msg = f"`tl.embed` needs an encoder, as `sq.tl.pretrain` returns it. Received {type(encoder).__name__}."
        raise ArgumentError(msg)
    slot = check_slots(key_added).embedding
    opened = open_cells(
        adata,
        encoder.genes,
        function="tl.embed",
        layer=layer,
        gene_key=gene_key,
        input_state=input_state,
        ignore_case=ignore_case,
        orthologs=orthologs,
        min_gene_overlap=min_gene_overlap,
    )
    write_results(adata, obsm={slot: encoder.embed(opened.cells)})
    logger.info("embedded %d cells from %s (%s); wrote obsm[%r]", adata.n_obs, opened.source, opened.match, slot)
