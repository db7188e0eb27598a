"""``scquery-ae export``: an embedding for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scquery_ae.cli import echo
from scquery_ae.cli.options import PATH, command, like, matching, overwrite, read_orthologs, reading, reporting
from scquery_ae.cli.outputs import check_outputs

EMBED = "tl.embed.embed"
ENDINGS = (".csv", ".csv.gz", ".parquet", ".h5ad")


@command("export")
@click.argument("source", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    multiple=True,
    required=True,
    help="What to write, by its ending: .csv, .csv.gz or .parquet for one row a cell, .h5ad for cellxgene; may be "
    "repeated.",
)
@overwrite
@click.option(
    "--reference", type=PATH, metavar="REFERENCE", help="Embed the cells by this reference; for cells never queried."
)
@click.option(
    "--column", "columns", multiple=True, metavar="COLUMN", help="Column of obs to put into tables; may be repeated."
)
@click.option(
    "--umap/--no-umap", default=True, show_default=True, help="Compute a UMAP for the .h5ad where there is none."
)
@like("tl.query.query", "n_neighbors", "Neighbors of the UMAP.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the UMAP.")
@matching
@like(EMBED, "min_gene_overlap", "Least share of the model genes that must be there, to embed.")
@like(EMBED, "key_added", "What the names of columns and slots start with.")
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
    r"""Write an embedding for clustering elsewhere, or an .h5ad that cellxgene opens.

    SOURCE is a reference, whose cells are written; or an .h5ad file that query wrote; or, with --reference, any file of
    cells. Tables have a row a cell: its name, the columns asked for, and its position in each dimension (scquery_0,
    scquery_1, ...), of unit length, so that Euclidean and cosine neighbors agree.

    \b
    Examples:
      scquery-ae export mine_annotated.h5ad -o embedding.csv --column scquery_label
      scquery-ae export mine.h5ad --reference islets.scq -o embedding.parquet
      scquery-ae export islets.scq -o islets_cellxgene.h5ad && cellxgene launch islets_cellxgene.h5ad
    """
    from scquery_ae import tl
    from scquery_ae.cli.cells import is_reference, load_reference, read_cells
    from scquery_ae.cli.exported import of_reference, require_embedding, table_of, write_for_cellxgene

    check_outputs(output, [source, *([reference] if reference else [])], overwrite=overwrite, endings=ENDINGS)
    prefix = asked["key_added"]
    if is_reference(source):
        if reference is not None:
            msg = f"{source} is a reference, with an embedding of its own. Leave out --reference."
            raise click.UsageError(msg)
        adata = of_reference(load_reference(source), prefix)
    elif reference is None:
        adata = read_cells(source, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
        require_embedding(adata, source, prefix)
    else:
        loaded = load_reference(reference)
        asked["orthologs"] = read_orthologs(asked["orthologs"])
        adata = read_cells(source, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
        echo.note(f"embedding {adata.n_obs} cells")
        tl.embed(adata, loaded.encoder, **asked)
    table = table_of(adata, prefix, columns)
    from scquery_ae.cli.annotated import write_table

    for path in sorted(output, key=lambda path: path.suffix == ".h5ad"):
        if path.suffix == ".h5ad":
            write_for_cellxgene(path, adata, prefix, umap=umap, n_neighbors=n_neighbors, seed=seed)
        else:
            write_table(path, table)
    found = {
        "source": source,
        "n_obs": adata.n_obs,
        "n_dimensions": int(adata.obsm[f"X_{prefix}"].shape[1]),
        "columns": list(columns),
        "outputs": list(output),
        "warnings": click.get_current_context().obj,
    }
    text = [f"{found['n_obs']} cells in {found['n_dimensions']} dimensions", *(f"wrote {path}" for path in output)]
    echo.answer("export", found, "\n".join(text), as_json=as_json)
