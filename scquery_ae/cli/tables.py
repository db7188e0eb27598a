"""Tables of names that options take."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from scquery_ae._errors import ScqueryError
from scquery_ae.cli.cells import require_path
from scquery_ae.cli.exit_codes import UNREADABLE, CommandError


def read_orthologs(path: Path | None) -> dict[str, str] | None:
    """Return the table of ``--orthologs``: names of the cells' genes to names of the reference's genes."""
    if path is None:
        return None
    expected = "Expected a CSV or TSV of two columns with a heading: a gene of the cells and its name in the reference."
    heading, *rows = read_rows(require_path(path, "table of gene names"), expected)
    rows = [row for row in rows if any(row)]
    if len(heading) < 2 or not rows:
        msg = f"{path} holds no pairs of names. {expected} Received {len(heading)} column(s) and {len(rows)} row(s)."
        raise CommandError(msg, UNREADABLE)
    return {row[0]: row[1] for row in rows if len(row) > 1 and row[0] and row[1]}


def check_gene_sets(path: Path) -> None:
    """Raise unless a path is a GMT file of gene sets."""
    from scquery_ae.gene_sets import read_gmt

    require_path(path, "GMT file of gene sets")
    try:
        read_gmt(path)
    except ScqueryError as error:
        raise CommandError(str(error), UNREADABLE) from error


def read_names(path: Path | None) -> list[str]:
    """Return the lines of a file that are not empty; ``-`` reads standard input."""
    if path is None:
        return []
    expected = "Expected one name per line."
    _require(path, "file of names")
    names = [line.strip() for line in _read_lines(path, expected)]
    names = [name for name in names if name]
    if not names:
        msg = f"{path} holds no name. {expected}"
        raise CommandError(msg, UNREADABLE)
    return names


def read_renames(path: Path | None) -> list[tuple[str, str]]:
    """Return the columns ``old`` and ``new`` of a table; ``-`` reads standard input."""
    if path is None:
        return []
    expected = "Expected a CSV or TSV whose heading has old and new, with one type per line."
    _require(path, "table of names")
    heading, *rows = read_rows(path, expected)
    source = _name(path)
    if not {"old", "new"} <= set(heading):
        msg = f"{source} has no columns old and new. Received the heading {', '.join(heading) or '(none)'}. {expected}"
        raise CommandError(msg, UNREADABLE)
    at_old, at_new = heading.index("old"), heading.index("new")
    pairs = []
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        filled = [*row, *[""] * (len(heading) - len(row))]
        if not (filled[at_old] and filled[at_new]):
            msg = (
                f"{source} lacks a name in line {number}: {', '.join(row)}. Expected an old and a new name; complete "
                "the line, or delete it to keep the name of the type."
            )
            raise CommandError(msg, UNREADABLE)
        pairs.append((filled[at_old], filled[at_new]))
    if not pairs:
        msg = f"{source} names no type. {expected}"
        raise CommandError(msg, UNREADABLE)
    return pairs


def read_rows(path: Path, expected: str) -> list[list[str]]:
    """Return the fields of each line of a table whose separator is a comma, a tab or a semicolon.

    Checked first: ``csv.Sniffer`` and pandas' ``sep=None``, which split a table of one column at any letter.
    """
    lines = _read_lines(path, expected)
    separator = next((mark for mark in "\t;" if mark in lines[0]), ",")
    try:
        return [[field.strip() for field in row] for row in csv.reader(lines, delimiter=separator, strict=True)]
    except csv.Error as error:
        msg = f"{_name(path)} cannot be read as a table: {error}. {expected}"
        raise CommandError(msg, UNREADABLE) from error


def _read_lines(path: Path, expected: str) -> list[str]:
    try:
        # Spreadsheets begin a file with a byte order mark.
        with click.open_file(str(path), encoding="utf-8-sig") as file:
            text: str = file.read()
        return text.split("\n")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{_name(path)} cannot be read: {error}. {expected}"
        raise CommandError(msg, UNREADABLE) from error


def _require(path: Path, meaning: str) -> None:
    """Raise unless there is a file at a path; standard input is always there."""
    if str(path) != "-":
        require_path(path, meaning)


def _name(path: Path) -> str:
    return "Standard input" if str(path) == "-" else str(path)
