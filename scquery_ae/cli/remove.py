"""``scquery-ae remove``: fewer cells in a reference."""

from __future__ import annotations

from pathlib import Path

import click

from scquery_ae.cli import changes
from scquery_ae.cli.options import PATH, command, reporting, values_by_column, where


@command("remove")
@click.argument("reference", type=PATH)
@changes.target
@where
@click.option("--name", "names", multiple=True, metavar="CELL", help="Name of a cell; may be repeated.")
@click.option(
    "--names-from",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="File with one cell name per line; - for standard input.",
)
@click.option("--dry-run", is_flag=True, help="Report what would be removed, and write nothing.")
@reporting
def remove(
    reference: Path,
    output: Path | None,
    *,
    in_place: bool,
    overwrite: bool,
    where: tuple[tuple[str, str], ...],
    names: tuple[str, ...],
    names_from: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Remove cells from a reference, without training.

    Cells are chosen by --where, by name, or by both; with both, a cell must match both. Confidence is calibrated again.

    \b
    Examples:
      scquery-ae remove islets.scq --where study=Baron --dry-run
      scquery-ae remove islets.scq --where study=Baron --where donor=D3 -o islets2.scq
      scquery-ae remove islets.scq --names-from doublets.txt --in-place
    """
    from scquery_ae.cli.cells import load_reference
    from scquery_ae.cli.outputs import save_reference
    from scquery_ae.cli.tables import read_names

    if not (where or names or names_from):
        msg = "Choose the cells to remove: --where COLUMN=VALUE, --name CELL or --names-from FILE."
        raise click.UsageError(msg)
    path = changes.find_target(reference, output, [], in_place=in_place, overwrite=overwrite, dry_run=dry_run)
    wanted = [*names, *read_names(names_from)]
    loaded = load_reference(reference)
    before, n_before = changes.type_counts(loaded), loaded.n_obs
    loaded.remove(wanted if names or names_from else None, where=values_by_column(where) or None)
    if path is not None:
        save_reference(loaded, path, overwrite=in_place or overwrite)
    changes.report("remove", loaded, before, path, n_cells=n_before - loaded.n_obs, as_json=as_json)
