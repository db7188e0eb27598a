"""``tl.query``: neighbors and labels of new cells."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scquery_ae._checks import (
    check_adata,
    check_choice,
    check_neighbors,
    check_number,
    check_obs_key,
    check_slots,
    shown,
)
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError, warn
from scquery_ae._logging import logger
from scquery_ae.loaders import open_cells
from scquery_ae.reference import Reference, SearchFilter, check_filter, open_reference
from scquery_ae.stats import CORR_METHODS, reject
from scquery_ae.tl._query_blocks import QueryResult, query_cells
from scquery_ae.tl._write import write_results

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@shared_parameters
def query(
    adata: AnnData,
    reference: Reference | str | PathLike[str],
    *,
    n_neighbors: int = 15,
    alpha: float = 0.05,
    corr_method: str | None = None,
    coverage: float = 0.98,
    where: Mapping[str, Any] | None = None,
    exclude_key: str | None = None,
    diversify_key: str | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    input_state: str = "auto",
    ignore_case: bool = False,
    orthologs: Mapping[str, str] | None = None,
    min_gene_overlap: float = 0.1,
    key_added: str = "scquery",
) -> None:
    """Find the nearest reference cells of every query cell and transfer their labels.

    The reference's own transform aligns the genes, normalises the values and embeds the cells; ``X`` and ``layers`` are
    not changed. The embedding of a cell does not depend on the other cells, except where `input_state` and
    `gene_key` are detected, from a sample of the values and from the names of the genes.

    A Dask array, as :func:`scquery_ae.read` returns for a large file, is read, embedded and searched block by block by
    Dask: in threads, or on the cluster of the current ``dask.distributed.Client``. A worker opens a saved reference
    itself if it finds it under its path; otherwise the reference is sent to it.

    Parameters
    ----------
    adata
        Query cells, ``(n_obs, n_vars)``: counts or log-normalised, dense, sparse, backed or Dask. Genes may be in any
        order, and some may be missing.
    %(reference)s
    n_neighbors
        Neighbors per cell, ``1 <= n_neighbors <= reference.n_obs``.
    alpha
        Level of the test for unknown cells, in (0, 1): the expected fraction of cells like the reference's that are
        called unknown.
    corr_method
        None to test each cell by itself, or ``"benjamini-hochberg"`` to correct for testing all cells of the query:
        `alpha` is then the false discovery rate, the expected fraction of known cells among those called unknown.
    coverage
        Expected fraction of prediction sets that hold the true type, in (0, 1). If it is below the accuracy, every set
        holds one type.
    where
        Restricts the search to reference cells with these values in their ``obs``, such as
        ``{"tissue": ["liver", "lung"]}``.
    exclude_key
        Column of both ``obs``. Reference cells with the query cell's own value, such as its donor, are excluded. A
        missing value excludes none.
    diversify_key
        Column of the reference's ``obs``, such as ``"study"``, over whose values the neighbors are spread evenly.
    %(layer)s
    %(gene_key)s
    %(input_state)s
    %(ignore_case)s
    %(orthologs)s
    %(min_gene_overlap)s
    %(key_added)s

    Returns
    -------
    None. Writes

    ``obs["scquery_label"]`` : categorical
        Most probable type; missing for a cell without a count in the model genes, which is called unknown.
    ``obs["scquery_confidence"]`` : float32
        Probability of this type, calibrated on held-out reference cells.
    ``obs["scquery_pvalue"]`` : float32
        Conformal p-value of belonging to the type near which the cell lies in the embedding.
    ``obs["scquery_novelty"]`` : float32
        Novelty score: how far the cell lies from the held-out cells of this type, in units of their spread. It ranks
        cells of all types, also where p-values tie, as across studies. Missing for a cell without a count.
    ``obs["scquery_unknown"]`` : bool
        Whether the p-value, corrected by `corr_method`, is at most `alpha`.
    ``obs["scquery_prediction_set"]`` : categorical
        Types that cannot be ruled out at `coverage`, joined by ``|``, most probable first.
    ``obsm["X_scquery"]`` : float32, ``(n_obs, n_latent)``
        Unit-length embedding.
    ``obsm["scquery_neighbors"]`` : int64, ``(n_obs, n_neighbors)``
        Rows of the reference, nearest first.
    ``obsm["scquery_distances"]`` : float32, ``(n_obs, n_neighbors)``
        Cosine distances, 0 to 2, ascending in each row.
    ``uns["scquery"]`` : dict
        Reference, versions, parameters and gene report.

    Raises
    ------
    GeneOverlapError
        If fewer than `min_gene_overlap` of the model genes are present.
    InputStateError
        If values are scaled, NaN or infinite.
    BundleError
        If the saved reference cannot be read.
    StorageError
        If a Dask worker cannot read its cells.
    ArgumentError
        If an argument is out of its range.
    MissingKeyError
        If `layer`, `gene_key`, `exclude_key`, `diversify_key` or a column of `where` is not there.

    Warns
    -----
    ScqueryWarning
        If few of the model genes are present, genes occur more than once, the kind of values is uncertain, or cells
        have no count in the model genes.

    Notes
    -----
    p-values and prediction sets are valid for cells exchangeable with the reference's held-out cells. Cells of another
    study or protocol are not; more of them are called unknown.

    References
    ----------
    Alavi et al., Nature Communications 9, 4768 (2018).
    """
    check_adata(adata, "tl.query")
    slots = check_slots(key_added)
    check_number("alpha", alpha, 0, 1, closed="neither")
    check_number("coverage", coverage, 0, 1, closed="neither")
    check_choice("corr_method", corr_method, CORR_METHODS, optional=True)
    loaded, identity = open_reference(reference, "tl.query")
    check_neighbors(n_neighbors, loaded.n_obs)
    rules = _search_rules(adata, where, exclude_key, diversify_key)
    check_filter(loaded.obs, rules.where, rules.excluded, diversify_key)
    opened = open_cells(
        adata,
        loaded.encoder.genes,
        function="tl.query",
        layer=layer,
        gene_key=gene_key,
        input_state=input_state,
        ignore_case=ignore_case,
        orthologs=orthologs,
        min_gene_overlap=min_gene_overlap,
    )
    found = query_cells(
        loaded,
        reference,
        identity["sha256"],
        opened.cells,
        n_neighbors=n_neighbors,
        coverage=coverage,
        rules=rules,
    )

    unknown = reject(found.pvalues, alpha, corr_method=corr_method)
    if not found.detected.all():
        warn(
            f"{int((~found.detected).sum())} cells have no count in the model genes and get no label, such as "
            f"{shown(adata.obs_names[~found.detected])}."
        )
    written = write_results(
        adata,
        obs={
            slots.label: _categorical(found.labels, loaded.types, adata.obs_names),
            slots.confidence: found.confidence,
            slots.pvalue: found.pvalues.astype(np.float32),
            slots.novelty: found.novelty,
            slots.unknown: unknown,
            slots.prediction_set: _named_sets(found, loaded.types, adata.obs_names),
        },
        obsm={
            slots.embedding: found.embedding,
            slots.neighbors: found.indices,
            slots.distances: found.distances,
        },
        uns={
            slots.uns: {
                "reference": identity,
                "types": list(loaded.types),
                "version": version("scquery-ae"),
                "parameters": {
                    "n_neighbors": n_neighbors,
                    "alpha": alpha,
                    "corr_method": corr_method or "",
                    "where": {key: str(value) for key, value in (where or {}).items()},
                    "exclude_key": exclude_key or "",
                    "diversify_key": diversify_key or "",
                    "ignore_case": ignore_case,
                    "orthologs": orthologs is not None,
                    "coverage": coverage,
                    "source": opened.source,
                    "input_state": opened.state.kind,
                },
                "genes": opened.match.to_dict(),
            }
        },
    )
    logger.info(
        "queried %d cells from %s (%s, %s): %d unknown; wrote %s",
        adata.n_obs,
        opened.source,
        opened.state.kind,
        opened.match,
        unknown.sum(),
        written,
    )


def _search_rules(adata: AnnData, where: Any, exclude_key: str | None, diversify_key: str | None) -> SearchFilter:
    if where is not None and not isinstance(where, Mapping):
        msg = (
            "`where` must map columns of the reference's `obs` to the values to search. "
            f'Received {type(where).__name__}; give for example `{{"tissue": "liver"}}`.'
        )
        raise ArgumentError(msg)
    excluded = {}
    if exclude_key is not None:
        excluded[exclude_key] = check_obs_key(adata, exclude_key, "exclude_key").astype(object).to_numpy()
    return SearchFilter(where or {}, excluded, diversify_key)


def _categorical(codes: np.ndarray, types: tuple[str, ...], index: pd.Index) -> pd.Series:
    import pandas as pd

    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(types)), index=index)


def _named_sets(found: QueryResult, types: tuple[str, ...], index: pd.Index) -> pd.Series:
    """Return the prediction sets as text. Few distinct sets occur, so only these are written out."""
    sets = found.prediction_sets.tolist()
    names = {members: "|".join(types[i] for i in members) for members in sorted(set(sets))}
    # If names of types contain bars, two sets may have the same text.
    positions = {name: i for i, name in enumerate(dict.fromkeys(names.values()))}
    codes = np.fromiter((positions[names[members]] for members in sets), dtype=np.int32, count=len(sets))
    return _categorical(np.where(found.detected, codes, -1), tuple(positions), index)
