"""``tl.embed``: the embedding of cells, in ``obsm``."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

from scquery_ae._checks import check_folder, check_slots
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import open_cells
from scquery_ae.tl._saved_embedding import embed_in_steps
from scquery_ae.tl._write import write_results

if TYPE_CHECKING:
    from anndata import AnnData


@shared_parameters
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
    """Embed cells with a trained encoder.

    The embedding of a cell does not depend on the other cells, except where `input_state` is detected, which looks at a
    sample of them.

    A Dask array, as :func:`scquery_ae.read` returns for a large file, is read and embedded block by block by Dask: in
    threads, or on the cluster of the current ``dask.distributed.Client``, whose workers need no Keras.

    Parameters
    ----------
    adata
        Cells, ``(n_obs, n_vars)``: counts or log-normalised, dense, sparse, backed or Dask, genes in any order.
    encoder
        From :func:`scquery_ae.tl.pretrain`, fine-tuned or not.
    %(layer)s
    %(gene_key)s
    %(input_state)s
    %(ignore_case)s
    %(orthologs)s
    %(min_gene_overlap)s
    checkpoint
        Folder to keep finished chunks of cells in. After an interruption, the same call continues from there, with the
        same result. A finished folder is read instead of embedding again. A Dask array is then embedded in this
        process, one block after the other. None keeps nothing.
    %(key_added)s

    Returns
    -------
    None. Writes

    ``obsm["X_scquery"]`` : float32, ``(n_obs, n_latent)``
        Unit-length embedding: Euclidean and cosine distance give the same neighbors.

    Raises
    ------
    GeneOverlapError
        If fewer than `min_gene_overlap` of the model genes are present.
    InputStateError
        If values are scaled, NaN or infinite.
    ArgumentError
        If an argument is out of its range, or `checkpoint` holds an embedding of other cells or by another encoder.
    StorageError
        If `checkpoint` cannot be written to, or a Dask worker cannot read its cells.
    """
    if not isinstance(encoder, Encoder):
        msg = f"`tl.embed` needs an encoder, such as `scq.tl.pretrain` returns. Received {type(encoder).__name__}."
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
        embedding = encoder.embed(opened.cells)
    else:
        embedding = embed_in_steps(encoder, opened.cells, adata.obs_names, folder)
    written = write_results(adata, obsm={slot: embedding})
    logger.info("embedded %d cells from %s (%s); wrote %s", adata.n_obs, opened.source, opened.match, written)
