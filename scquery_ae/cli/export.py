"""``scquery-ae export``: an embedding for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scquery_ae.cli.console import print_result, show_progress
from scquery_ae.cli.options import PATH, Prefix, command, like, matching, overwrite, reading, reporting
from scquery_ae.cli.outputs import check_outputs

EMBED = "tl.embed.embed"
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".h5ad")


@command("export")
@click.argument("source", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    multiple=True,
    required=True,
    help="File to write; its suffix sets the format: .csv, .csv.gz or .parquet for one row per cell, .h5ad for "
    "cellxgene. May be repeated.",
)
@overwrite
@click.option(
    "--reference",
    type=PATH,
    metavar="REFERENCE",
    help="Embed the cells with this reference, if they have no embedding.",
)
@click.option(
    "--column", "columns", multiple=True, metavar="COLUMN", help="Column of obs to add to tables; may be repeated."
)
@click.option(
    "--umap/--no-umap", default=True, show_default=True, help="Compute a UMAP for the .h5ad if there is none."
)
@like("tl.query.query", "n_neighbors", "Number of neighbors for the UMAP.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed of the UMAP.")
@matching
@like(EMBED, "min_gene_overlap", "Smallest accepted fraction of the model genes, with --reference.")
@like(EMBED, "key_added", "Prefix of columns and slots.", type=Prefix())
@reading
@reporting
def export(
    source: Path,
    output: tuple[Path, ...],
    *,
    overwrite: bool,
    reference: Path | None,
    columns: tuple[str, ...],
    umap: bool,
    n_neighbors: int,
    seed: int,
    as_json: bool,
    lazy: bool | None,
    use_raw: bool,
    make_unique: bool,
    **asked: Any,
) -> None:
    r"""Write an embedding as a table, or as an .h5ad that cellxgene opens.

    SOURCE is a reference, an .h5ad file that query wrote, or, with --reference, any file of cells. Tables have one row
    per cell: its name, the columns of --column, and its coordinates (scquery_0, scquery_1, ...). Embeddings have unit
    length, so Euclidean and cosine distances give the same neighbors.

    \b
    Examples:
      scquery-ae export mine_annotated.h5ad -o embedding.csv --column scquery_label
      scquery-ae export mine.h5ad --reference islets.scq -o embedding.parquet
      scquery-ae export islets.scq -o islets_cellxgene.h5ad && cellxgene launch islets_cellxgene.h5ad
    """
    from scquery_ae import tl
    from scquery_ae.cli.cells import is_reference, load_reference, read_cells
    from scquery_ae.cli.embeddings import collect_embeddings, make_table, reference_as_adata, require_embedding
    from scquery_ae.cli.tables import read_orthologs
    from scquery_ae.io import write_cellxgene, write_table

    check_outputs(output, [source, *([reference] if reference else [])], overwrite=overwrite, suffixes=SUFFIXES)
    prefix = asked["key_added"]
    if is_reference(source):
        if reference is not None:
            msg = f"{source} is a reference and has an embedding. Leave out --reference."
            raise click.UsageError(msg)
        adata = reference_as_adata(load_reference(source), prefix)
    elif reference is None:
        adata = read_cells(source, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
        require_embedding(adata, source, prefix)
    else:
        loaded = load_reference(reference)
        asked["orthologs"] = read_orthologs(asked["orthologs"])
        adata = read_cells(source, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
        show_progress(f"embedding {adata.n_obs} cells")
        tl.embed(adata, loaded.encoder, **asked)
    table = make_table(adata, prefix, columns)
    for path in sorted(output, key=lambda path: path.suffix == ".h5ad"):
        show_progress(f"writing {path}")
        if path.suffix == ".h5ad":
            write_cellxgene(
                path, adata, collect_embeddings(adata, prefix, umap=umap, n_neighbors=n_neighbors, seed=seed)
            )
        else:
            write_table(path, table)
    found = {
        "source": source,
        "n_obs": adata.n_obs,
        "n_dimensions": int(adata.obsm[f"X_{prefix}"].shape[1]),
        "columns": list(columns),
        "outputs": list(output),
    }
    text = [f"{found['n_obs']} cells in {found['n_dimensions']} dimensions", *(f"wrote {path}" for path in output)]
    print_result("export", found, "\n".join(text), as_json=as_json)
