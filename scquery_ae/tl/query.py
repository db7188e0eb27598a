"""``tl.query``: what a reference says about new cells."""

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
from scquery_ae._errors import ArgumentError, warn
from scquery_ae._logging import logger
from scquery_ae.loaders import open_cells
from scquery_ae.reference import Reference, SearchFilter, open_reference
from scquery_ae.stats import CORR_METHODS, reject
from scquery_ae.tl._query_blocks import Answers, ask
from scquery_ae.tl._write import write_results

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


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

    Genes are aligned, values normalised and cells embedded by what the reference carries; ``X`` and
    ``layers`` are left as they are. A cell's answer depends on that cell alone, not on its file.

    Cells of a Dask array, as :func:`scquery_ae.read_lazy` gives, are read, embedded and searched block by block where
    Dask works: in threads, or on the cluster of the current ``dask.distributed.Client``. Workers open a saved reference
    themselves if they find it under its path, and get it sent otherwise.

    Parameters
    ----------
    adata
        Query cells, ``(n_obs, n_vars)``: counts or log-normalised, dense, sparse, backed or Dask, genes in any
        order, some missing.
    reference
        A reference, or the path of a saved one.
    n_neighbors
        Hits per cell, ``1 <= n_neighbors <= reference.n_obs``.
    alpha
        Share of cells like the reference's that may be called unknown, in (0, 1).
    corr_method
        None to test each cell by itself, or ``"benjamini-hochberg"`` to correct for testing all cells of the query:
        `alpha` is then the false discovery rate, the expected fraction of known cells among those called unknown.
    coverage
        Share of prediction sets that are to hold the true type, in (0, 1). Below the accuracy, sets hold one type each.
    where
        Search only reference cells with these values in their ``obs``, such as ``{"tissue": ["liver", "lung"]}``.
    exclude_key
        Column of both ``obs``: reference cells with the query cell's own value, say its donor, are not found. A missing
        value excludes none.
    diversify_key
        Column of the reference's ``obs``, say ``"study"``, over whose values neighbors are spread evenly.
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

    ``obs["scquery_label"]`` : categorical
        Most probable type; missing for a cell without a count in the model genes, which is unknown.
    ``obs["scquery_confidence"]`` : float32
        Its probability, calibrated on held-out reference cells.
    ``obs["scquery_pvalue"]`` : float32
        Conformal p-value of being an ordinary cell of the type near which its embedding lies.
    ``obs["scquery_novelty"]`` : float32
        How unlike held-out cells of that type it is, in units of what is usual among held-out cells. Ranks cells of
        all types, also where p-values tie, as across studies. Missing for a cell without a count.
    ``obs["scquery_unknown"]`` : bool
        Whether the p-value is at most `alpha`.
    ``obs["scquery_prediction_set"]`` : categorical
        Types that cannot be ruled out at `coverage`, joined by ``|``, likeliest first.
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
        If fewer than `min_gene_overlap` of the model genes are there.
    InputStateError
        If values are scaled, NaN or infinite.
    BundleError
        If the saved reference cannot be read.
    StorageError
        If a worker of Dask cannot read its cells.
    ArgumentError
        If an argument is out of its range.

    Notes
    -----
    p-values and sets hold for cells exchangeable with the reference's held-out cells. Across studies and
    protocols that is not so: expect more cells to be called unknown.

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
    found = ask(
        loaded,
        reference,
        identity["sha256"],
        opened.cells,
        n_neighbors=n_neighbors,
        coverage=coverage,
        rules=rules,
    )

    unknown = reject(found.pvalues, alpha, corr_method=corr_method)
    if not found.seen.all():
        warn(
            f"{int((~found.seen).sum())} cells have nothing in the model genes and get no label, such as "
            f"{shown(adata.obs_names[~found.seen])}."
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
            slots.embedding: found.latent,
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


def _categorical(latent: np.ndarray, types: tuple[str, ...], index: pd.Index) -> pd.Series:
    import pandas as pd

    return pd.Series(pd.Categorical.from_codes(latent, categories=pd.Index(types)), index=index)


def _named_sets(found: Answers, types: tuple[str, ...], index: pd.Index) -> pd.Series:
    """Return the prediction sets as text. Few distinct sets occur, so only those are spelt out."""
    sets = found.prediction_sets.tolist()
    names = {members: "|".join(types[i] for i in members) for members in sorted(set(sets))}
    # Where names of types have bars in them, two sets may read the same.
    positions = {name: i for i, name in enumerate(dict.fromkeys(names.values()))}
    latent = np.fromiter((positions[names[members]] for members in sets), dtype=np.int32, count=len(sets))
    return _categorical(np.where(found.seen, latent, -1), tuple(positions), index)
