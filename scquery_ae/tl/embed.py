"""``tl.embed``: embeddings of cells in ``obsm``."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

from scquery_ae._checks import check_folder, check_slots
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import open_cells
from scquery_ae.tl._saved_embedding import embed_in_steps
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
    checkpoint: str | PathLike[str] | None = None,
    key_added: str = "scquery",
) -> None:
    """Embed cells with a trained encoder. Each cell's code depends on that cell alone.

    Cells of a Dask array, as :func:`scquery_ae.read_lazy` gives, are read and embedded block by block where Dask works:
    in threads, or on the cluster of the current ``dask.distributed.Client``, whose workers need no TensorFlow.

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
    checkpoint
        Folder to keep finished chunks of cells in: called again after an interruption, with the same arguments, the
        embedding goes on from there, to the same result. It may stay: with all cells done, they are read from it. A
        Dask array is then embedded in this process, one block after the other. None to keep nothing.
    key_added
        Slot prefix.

    Returns
    -------
    None. Writes

    ``obsm["X_scquery"]`` : float32, ``(n_obs, n_latent)``
        Codes of unit length: Euclidean and cosine neighbors agree.

    Raises
    ------
    GeneOverlapError
        If fewer than `min_gene_overlap` of the model genes are there.
    InputStateError
        If values are scaled, NaN or infinite.
    ArgumentError
        If an argument is out of its range, or `checkpoint` holds an embedding of other cells or by another encoder.
    StorageError
        If `checkpoint` cannot be written to, or a worker of Dask cannot read its cells.
    """
    if not isinstance(encoder, Encoder):
        msg = f"`tl.embed` needs an encoder, as `scq.tl.pretrain` returns it. Received {type(encoder).__name__}."
        raise ArgumentError(msg)
    slot = check_slots(key_added).embedding
    folder = None if checkpoint is None else check_folder("checkpoint", checkpoint)
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
    if folder is None:
        latent = encoder.embed(opened.cells)
    else:
        latent = embed_in_steps(encoder, opened.cells, adata.obs_names, folder)
    written = write_results(adata, obsm={slot: latent})
    logger.info("embedded %d cells from %s (%s); wrote %s", adata.n_obs, opened.source, opened.match, written)
