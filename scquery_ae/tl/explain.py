"""``tl.explain``: the genes behind the similarity of a query cell and a reference cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import is_integer, shown
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae._logging import logger
from scquery_ae.loaders import open_cells
from scquery_ae.reference import Reference, open_reference

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@shared_parameters
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
    """Attribute the similarity of a query cell and a reference cell to genes.

    The embedding of the reference cell is propagated back through the encoder's transposed kernels, as in the tied
    decoder, to a weight for each gene. The weights times the query cell's values (minus their mean in the reference)
    add up to the cosine similarity of the two cells, except for a part that comes from biases. The same computation for
    the difference of the two embeddings adds up to their distance. The attribution is exact if the activations are
    piecewise linear, as by default. A gene that the cell does not express counts too, through its mean. Of several
    markers with the same information, training may give weight to one only.

    Parameters
    ----------
    adata
        Query cells, ``(n_obs, n_vars)``.
    %(reference)s
    cell
        Name or row of the query cell.
    neighbor
        Name of the reference cell, or its rank among the query cell's neighbors, 0 for the nearest.
    %(layer)s
    %(gene_key)s
    %(input_state)s
    %(ignore_case)s
    %(orthologs)s

    Returns
    -------
    One row per model gene that the query has, largest similarity first, with columns ``value`` (log-normalised, minus
    the mean in the reference), ``similarity`` and ``distance`` (the gene's contributions). ``attrs`` holds the names of
    the ``cell`` and the ``neighbor``, the neighbor's ``label``, and the total ``similarity``.

    Raises
    ------
    MissingKeyError
        If there is no such cell or neighbor.
    ArgumentError
        If the cell has no count in the model genes.
    GeneOverlapError, InputStateError, BundleError
        As for :func:`scquery_ae.tl.query`.

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
        msg = (
            f"The cell {adata.obs_names[row]!r} has no count in the model genes, so its neighbors cannot be explained."
        )
        raise ArgumentError(msg)
    if isinstance(neighbor, str):
        target = _position(neighbor, list(loaded.obs.index), "neighbor")
    else:
        if not is_integer(neighbor) or not 0 <= neighbor < loaded.n_obs:
            msg = (
                f"`neighbor` must be the name of a reference cell or a rank from 0 to {loaded.n_obs - 1}. "
                f"Received {neighbor!r}."
            )
            raise ArgumentError(msg)
        target = int(loaded.search_index.search(embedded.embedding, int(neighbor) + 1).indices[0, -1])
    present = opened.match.columns >= 0
    logged = encoder.transform.log_normalize(one.load(), opened.cells.present)
    values = np.where(present, logged.toarray()[0] - encoder.transform.mean, 0).astype(np.float32)
    own, other = embedded.embedding[0], np.asarray(loaded.embedding[target])
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
        "explained cell %r and its neighbor %r (%s) by %d genes; returned a table, and wrote nothing into the AnnData",
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
