"""``scquery-ae relabel``: a reference whose types get other names."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from scquery_ae.cli import changes
from scquery_ae.cli.failures import Problem
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
    help="A type and its new name; may be repeated.",
)
@click.option(
    "--names-from",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="CSV or TSV with the columns old and new, one type a line; - for standard input.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be renamed, and write nothing.")
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
    r"""Give types of a reference other names, without training.

    All names change at once, and types that get one name become one. Confidence is calibrated anew.

    \b
    Examples:
      scquery-ae relabel islets.scq --name beta="beta cell" --name alpha="alpha cell" -o islets2.scq
      scquery-ae relabel islets.scq --name "CD4 naive=T cell" --name "CD4 memory=T cell" --dry-run
      scquery-ae relabel islets.scq --names-from names.csv --in-place
    """
    from scquery_ae.cli.cells import load_reference
    from scquery_ae.cli.outputs import save_reference

    if not (names or names_from):
        msg = "Say which types to rename: --name OLD=NEW or --names-from FILE."
        raise click.UsageError(msg)
    path = None
    if not dry_run:
        path = changes.check_target(reference, output, [], in_place=in_place, overwrite=overwrite)
    wanted = _one_each([*names, *_table(names_from)])
    loaded = load_reference(reference)
    before = changes.type_counts(loaded)
    loaded.relabel(wanted)
    if path is not None:
        save_reference(loaded, path, overwrite=in_place or overwrite)
    n_cells = sum(before[old] for old, new in wanted.items() if old != new)
    changes.report("relabel", loaded, before, path, n_cells=n_cells, as_json=as_json, names=wanted)


def _one_each(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return new names by old ones."""
    found: dict[str, str] = {}
    for old, new in pairs:
        if found.setdefault(old, new) != new:
            msg = f"The type {old!r} gets two names, {found[old]!r} and {new!r}. Expected one for each type."
            raise Problem(msg)
    return found


def _table(file: Path | None) -> list[tuple[str, str]]:
    """Return the columns ``old`` and ``new`` of a file."""
    if file is None:
        return []
    name = "Standard input" if str(file) == "-" else str(file)
    expected = "Expected a CSV or TSV whose heading has old and new, and one type a line."
    try:
        # Spreadsheets begin a file with a mark of its encoding.
        with click.open_file(str(file), encoding="utf-8-sig") as lines:
            text = lines.read().split("\n")
        between = next((mark for mark in "\t;" if mark in text[0]), ",")
        rows = [[field.strip() for field in row] for row in csv.reader(text, delimiter=between, strict=True)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{name} cannot be read as a table: {error}. {expected}"
        raise Problem(msg) from error
    heading = rows[0]
    if not {"old", "new"} <= set(heading):
        msg = f"{name} has no columns old and new. Received the heading {', '.join(heading) or '(none)'}. {expected}"
        raise Problem(msg)
    at_old, at_new = heading.index("old"), heading.index("new")
    pairs = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(row):
            continue
        filled = [*row, *[""] * (len(heading) - len(row))]
        if not (filled[at_old] and filled[at_new]):
            msg = (
                f"{name} lacks a name in line {number}: {between.join(row)}. Expected an old and a new one; complete "
                "the line, or delete it to keep the type's name."
            )
            raise Problem(msg)
        pairs.append((filled[at_old], filled[at_new]))
    if not pairs:
        msg = f"{name} names no type. {expected}"
        raise Problem(msg)
    return pairs
