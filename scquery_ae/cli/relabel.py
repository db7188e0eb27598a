"""``scquery-ae relabel``: new names for the types of a reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from scquery_ae.cli import changes
from scquery_ae.cli.exit_codes import CommandError
from scquery_ae.cli.options import PATH, Assignment, command, reporting


@command("relabel")
@click.argument("reference", type=PATH)
@changes.target
@click.option(
    "--name",
    "names",
    multiple=True,
    type=Assignment("OLD=NEW", "beta='beta cell'"),
    metavar="OLD=NEW",
    help="Name of a type and its new name; may be repeated.",
)
@click.option(
    "--names-from",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="CSV or TSV with the columns old and new, one type per line; - for standard input.",
)
@click.option("--dry-run", is_flag=True, help="Report what would be renamed, and write nothing.")
@reporting
def relabel(
    reference: Path,
    output: Path | None,
    *,
    in_place: bool,
    overwrite: bool,
    names: tuple[tuple[str, str], ...],
    names_from: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Rename types of a reference, without training.

    All names change at once. Types that get the same name are joined. Confidence is calibrated again.

    \b
    Examples:
      scquery-ae relabel islets.scq --name beta="beta cell" --name alpha="alpha cell" -o islets2.scq
      scquery-ae relabel islets.scq --name "CD4 naive=T cell" --name "CD4 memory=T cell" --dry-run
      scquery-ae relabel islets.scq --names-from names.csv --in-place
    """
    from scquery_ae.cli.cells import load_reference
    from scquery_ae.cli.outputs import save_reference
    from scquery_ae.cli.tables import read_renames

    if not (names or names_from):
        msg = "Choose the types to rename: --name OLD=NEW or --names-from FILE."
        raise click.UsageError(msg)
    path = changes.find_target(reference, output, [], in_place=in_place, overwrite=overwrite, dry_run=dry_run)
    wanted = _check_unambiguous([*names, *read_renames(names_from)])
    loaded = load_reference(reference)
    before = changes.type_counts(loaded)
    loaded.relabel(wanted)
    if path is not None:
        save_reference(loaded, path, overwrite=in_place or overwrite)
    n_cells = sum(before[old] for old, new in wanted.items() if old != new)
    changes.report("relabel", loaded, before, path, n_cells=n_cells, as_json=as_json, names=wanted)


def _check_unambiguous(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return the new name of each type."""
    found: dict[str, str] = {}
    for old, new in pairs:
        if found.setdefault(old, new) != new:
            msg = f"The type {old!r} has two new names, {found[old]!r} and {new!r}. Give one for each type."
            raise CommandError(msg)
    return found
