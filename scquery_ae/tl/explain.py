"""``tl.explain``: which genes bring a query cell and its neighbor together, and which set them apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import is_integer, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae._logging import logger
from scquery_ae.loaders import open_cells
from scquery_ae.reference import Reference, open_reference

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def explain(
    adata: AnnData,
    reference: Reference | str | PathLike[str],
    cell: str | int,
    *,
    neighbor: str | int = 0,
    layer: str | None = None,
    gene_key: str | None = None,
    input_state: str = "auto",
    ignore_case: bool = False,
    orthologs: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Take the similarity of a query cell and a reference cell apart into genes.

    The embedding of the neighbor is sent back through the encoder's transposed kernels, as the tied decoder does, to weights of
    the genes; times the query cell's values (against their mean in the reference) they add up to the cosine similarity
    of the two, but for a part that stems from biases. The same of the difference of the two embeddings adds up to their
    distance. With activations that are linear by pieces (the default) this is exact. Genes that the cell lacks count
    too, against their mean; and of markers that say the same, training may weigh one and leave another.

    Parameters
    ----------
    adata
        Query cells, ``(n_obs, n_vars)``.
    reference
        A reference, or the path of a saved one.
    cell
        Name or row of the query cell.
    neighbor
        Name of the reference cell, or its rank among the cell's nearest, 0 for the nearest.
    layer, gene_key, input_state, ignore_case, orthologs
        As for :func:`scquery_ae.tl.query`.

    Returns
    -------
    One row a model gene that the query has, those that bring the two together first: ``value`` (log-normalised, less
    the mean in the reference), ``similarity`` and ``distance`` (parts of the two), and in ``attrs`` the ``cell``, the
    ``neighbor``, its ``label`` and the whole ``similarity``.

    Raises
    ------
    MissingKeyError
        If there is no such cell or hit.
    ArgumentError
        If the cell has no count in the model genes.
    GeneOverlapError, InputStateError, BundleError
        As of :func:`scquery_ae.tl.query`.

    References
    ----------
    Shrikumar et al., International Conference on Machine Learning (2017), on gradient times input.
    """
    import pandas as pd

    loaded, _ = open_reference(reference, "tl.explain")
    encoder = loaded.encoder
    opened = open_cells(
        adata,
        encoder.genes,
        function="tl.explain",
        layer=layer,
        gene_key=gene_key,
        input_state=input_state,
        ignore_case=ignore_case,
        orthologs=orthologs,
        min_gene_overlap=0.1,
        warn_overlap=False,
    )
    row = _position(cell, list(adata.obs_names), "cell")
    one = replace(opened.cells, matrix=opened.cells.matrix[row : row + 1])
    embedded = loaded.embed(one)
    if embedded.totals[0] == 0:
        msg = f"The cell {adata.obs_names[row]!r} has no count in the model genes: there is nothing to explain."
        raise ArgumentError(msg)
    if isinstance(neighbor, str):
        target = _position(neighbor, list(loaded.obs.index), "neighbor")
    else:
        if not is_integer(neighbor) or not 0 <= neighbor < loaded.n_obs:
            msg = f"`neighbor` must be the name of a reference cell or a rank from 0 to {loaded.n_obs - 1}. Received {neighbor!r}."
            raise ArgumentError(msg)
        target = int(loaded.search_index.search(embedded.latent, int(neighbor) + 1).indices[0, -1])
    present = opened.match.columns >= 0
    logged = encoder.transform.log_normalize(one.load(), opened.cells.present)
    values = np.where(present, logged.toarray()[0] - encoder.transform.mean, 0).astype(np.float32)
    own, other = embedded.latent[0], np.asarray(loaded.embedding[target])
    table = pd.DataFrame(
        {
            "value": values,
            "similarity": values * encoder.gene_gradient(values, other),
            "distance": values * encoder.gene_gradient(values, own - other),
        },
        index=pd.Index(encoder.genes.astype(str), name="gene"),
    )[present]
    table = table.sort_values("similarity", ascending=False, kind="stable")
    table.attrs = {
        "cell": str(adata.obs_names[row]),
        "neighbor": str(loaded.obs.index[target]),
        "label": str(loaded.obs[loaded.label_key].iloc[target]),
        "similarity": float(own @ other),
    }
    logger.info(
        "explained cell %r by its neighbor %r (%s) over %d genes; returned a table, and wrote nothing into the AnnData",
        table.attrs["cell"],
        table.attrs["neighbor"],
        table.attrs["label"],
        len(table),
    )
    return table


def _position(name: str | int, names: list[str], argument: str) -> int:
    if isinstance(name, str) and name in names:
        return names.index(name)
    if is_integer(name) and -len(names) <= int(name) < len(names):
        return int(name) % len(names)
    msg = f"`{argument}={name!r}` is not there. Expected a row, or a name such as {shown(names)}."
    raise MissingKeyError(msg)
