"""``scquery-ae add``: more cells in a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scquery_ae.cli import changes
from scquery_ae.cli.console import show_progress
from scquery_ae.cli.options import PATH, command, like, matching, reading, reporting

ADD = "reference.reference.Reference.add"


@command("add")
@click.argument("cells", type=PATH)
@click.argument("reference", type=PATH)
@changes.target
@like(ADD, "label_key", "Column of obs with the cell types.  [default: the name in the reference]", metavar="COLUMN")
@matching
@like(ADD, "min_gene_overlap", "Smallest accepted fraction of the model genes.")
@reading
@reporting
def add(
    cells: Path,
    reference: Path,
    output: Path | None,
    *,
    in_place: bool,
    overwrite: bool,
    as_json: bool,
    lazy: bool | None,
    use_raw: bool,
    make_unique: bool,
    **asked: Any,
) -> None:
    r"""Add labelled cells to a reference, without training.

    CELLS is a file of labelled cells. New types are predicted by neighbors only, because the classifier was not trained
    on them. Confidence is calibrated again.

    \b
    Examples:
      scquery-ae add more.h5ad islets.scq --label-key cell_type -o islets2.scq
      scquery-ae add more.h5ad islets.scq --in-place
    """
    from scquery_ae.cli.cells import load_reference, read_cells, require_cells
    from scquery_ae.cli.outputs import save_reference
    from scquery_ae.cli.tables import read_orthologs

    require_cells([cells])
    path = changes.check_target(reference, output, [cells], in_place=in_place, overwrite=overwrite)
    loaded = load_reference(reference, after_cells=True)
    asked["orthologs"] = read_orthologs(asked["orthologs"])
    adata = read_cells(cells, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
    before = changes.type_counts(loaded)
    show_progress(f"adding {adata.n_obs} cells")
    loaded.add(adata, **asked)
    save_reference(loaded, path, overwrite=in_place or overwrite)
    changes.report("add", loaded, before, path, n_cells=adata.n_obs, as_json=as_json)
