"""``scquery-ae add``: a reference that grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scquery_ae.cli import changes, echo
from scquery_ae.cli.options import PATH, command, like, matching, read_orthologs, reading, reporting

ADD = "reference.reference.Reference.add"


@command("add")
@click.argument("cells", type=PATH)
@click.argument("reference", type=PATH)
@changes.target
@like(
    ADD, "label_key", "Column of the cells' obs with their types.  [default: that of the reference]", metavar="COLUMN"
)
@matching
@like(ADD, "min_gene_overlap", "Least share of the model genes that must be there; these cells answer others.")
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

    Types that are new are named by neighbors from then on. Confidence is calibrated anew.

    \b
    Examples:
      scquery-ae add more.h5ad islets.scq --label-key cell_type -o islets2.scq
      scquery-ae add more.h5ad islets.scq --in-place
    """
    from scquery_ae.cli.cells import existing, load_reference, read_cells
    from scquery_ae.cli.outputs import save_reference

    existing(cells, "file of cells")
    path = changes.check_target(reference, output, [cells], in_place=in_place, overwrite=overwrite)
    loaded = load_reference(reference)
    asked["orthologs"] = read_orthologs(asked["orthologs"])
    adata = read_cells(cells, lazy=lazy, use_raw=use_raw, make_unique=make_unique)
    before = changes.type_counts(loaded)
    echo.note(f"adding {adata.n_obs} cells")
    loaded.add(adata, **asked)
    save_reference(loaded, path, overwrite=in_place or overwrite)
    changes.report("add", loaded, before, path, n_cells=adata.n_obs, as_json=as_json)
