"""``scquery-ae remove``: a reference that shrinks."""

from __future__ import annotations

from pathlib import Path

import click

from scquery_ae.cli import changes
from scquery_ae.cli.failures import Problem
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
    help="File of names of cells, one a line; - for standard input.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and write nothing.")
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
    r"""Take cells out of a reference, without training.

    Cells are meant by --where, by name, or by both: then those that both mean. Confidence is calibrated anew.

    \b
    Examples:
      scquery-ae remove islets.scq --where study=Baron --dry-run
      scquery-ae remove islets.scq --where study=Baron --where donor=D3 -o islets2.scq
      scquery-ae remove islets.scq --names-from doublets.txt --in-place
    """
    from scquery_ae.cli.cells import load_reference
    from scquery_ae.cli.outputs import save_reference

    if not (where or names or names_from):
        msg = "Say which cells to remove: --where COLUMN=VALUE, --name CELL or --names-from FILE."
        raise click.UsageError(msg)
    path = None
    if not dry_run:
        path = changes.check_target(reference, output, [], in_place=in_place, overwrite=overwrite)
    wanted = [*names, *_listed(names_from)]
    loaded = load_reference(reference)
    before, n_before = changes.type_counts(loaded), loaded.n_obs
    loaded.remove(wanted if names or names_from else None, where=values_by_column(where) or None)
    if path is not None:
        save_reference(loaded, path, overwrite=in_place or overwrite)
    changes.report("remove", loaded, before, path, n_cells=n_before - loaded.n_obs, as_json=as_json)


def _listed(file: Path | None) -> list[str]:
    """Return the lines of a file that are not empty."""
    if file is None:
        return []
    try:
        with click.open_file(str(file), encoding="utf-8") as lines:
            names = [line.strip() for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} cannot be read as a list of names: {error}. Expected one name a line."
        raise Problem(msg) from error
    names = [name for name in names if name]
    if not names:
        msg = f"{file} names no cell. Expected one name a line."
        raise Problem(msg)
    return names
