"""Named values and tables of ``benchmarks/results/``, for the pages that quote them.

    python benchmarks/values.py --names accuracy_summary     # list names and values
    python benchmarks/values.py --write                      # update the quoted values of README.md and the pages

Every cell of every table in ``results/*.md`` has a name: the file, the heading above the table (if any), the row
labels and the column, each as lower-case words joined by underscores. The macro-F1 of CellTypist in the first row of
``accuracy.md`` is ``accuracy.all_measures.pancreas_protocol.celltypist.macro_f1``. For a cell such as ``0.960 ±
0.003``, the name with ``_mean`` appended gives the mean alone. A table is named by its file and the heading above it,
or by ``first``, ``second`` ... if it has none.

``README.md`` and the pages under ``docs/`` quote values and tables between markers that readers do not see, on the
site and in the repository::

    <!-- value: accuracy_summary.scquery_ae.mean -->0.838<!-- /value -->

    <!-- table: accuracy_summary.first -->
    | method | ...
    <!-- /table -->

Markdown ends a paragraph at a line that begins with a marker: put a word before it. ``--write`` rewrites the text
between the markers; ``tests/test_benchmarks.py`` fails where it is out of date.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
#: Headers of columns that label a row together with the first column. All other columns hold values.
LABELS = frozenset(("method", "variant", "start", "gene-panel dropout", "search", "keras on"))
#: Names of the tables of a file that stand under no heading.
ORDER = ("first", "second", "third", "fourth", "fifth")
#: Folders of ``docs/`` that its build writes.
GENERATED = frozenset(("_build", "generated", "results"))
QUOTED = re.compile(r"<!-- value: (?P<name>[\w.]+) -->(?P<text>.*?)<!-- /value -->", re.DOTALL)
QUOTED_TABLE = re.compile(r"<!-- table: (?P<name>[\w.]+) -->\n(?P<text>.*?)\n<!-- /table -->", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """A Markdown table: the heading above it, the header and the rows as cells, and its text."""

    heading: str
    header: list[str]
    rows: list[list[str]]
    text: str


def tables(text: str) -> Iterator[Table]:
    """Yield the tables of a Markdown text from top to bottom."""
    heading, lines = "", []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
            continue
        if len(lines) > 2:
            header, _, *rows = (_cells(row) for row in lines)
            yield Table(heading, header, rows, "\n".join(lines))
        lines = []
        if line.startswith("#"):
            heading = line.lstrip("# ")


def pages(root: Path = ROOT) -> list[Path]:
    """Return ``README.md`` and the pages under ``docs/``, without those that the build of the pages writes."""
    written = (page for page in (root / "docs").rglob("*.md") if not GENERATED & set(page.relative_to(root).parts))
    return [root / "README.md", *sorted(written)]


def read_results(folder: Path = RESULTS) -> dict[str, Any]:
    """Return all named values of a folder as nested dictionaries, and its tables under ``"table"``."""
    found: dict[str, Any] = {"table": {}}
    for file in sorted(folder.glob("*.md")):
        unnamed = iter(ORDER)
        for table in tables(file.read_text(encoding="utf-8")):
            section = [file.stem, *([table.heading] if table.heading else [])]
            _put(found, ["table", file.stem, table.heading or next(unnamed)], table.text)
            n_labels = 1 + sum(1 for _ in takewhile(lambda name: name.lower() in LABELS, table.header[1:]))
            for row in table.rows:
                path = [*section, *(label for label in row[:n_labels] if label)]
                for column, value in zip(table.header[n_labels:], row[n_labels:], strict=True):
                    if value:
                        _put(found, [*path, column], value)
                        if " ±" in value:
                            _put(found, [*path, f"{column}_mean"], value.partition(" ±")[0])
    return found


def value(found: dict[str, Any], name: str) -> str:
    """Return the value with a dotted name."""
    node: Any = found
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            known = ", ".join(node) if isinstance(node, dict) else "none"
            msg = (
                f"No result is named {name!r}. Expected a name of `python benchmarks/values.py --names`. "
                f"Received {part!r}, where there are: {known}."
            )
            raise KeyError(msg)
        node = node[part]
    if not isinstance(node, str):
        msg = f"{name!r} names a group of results. Expected one value. Received the group of {', '.join(node)}."
        raise KeyError(msg)
    return node


def rewritten(text: str, found: dict[str, Any]) -> str:
    """Return a page with the text between its markers replaced by the current values and tables."""

    def quote(match: re.Match[str]) -> str:
        return f"<!-- value: {match['name']} -->{value(found, match['name'])}<!-- /value -->"

    def table(match: re.Match[str]) -> str:
        return f"<!-- table: {match['name']} -->\n{value(found['table'], match['name'])}\n<!-- /table -->"

    return QUOTED_TABLE.sub(table, QUOTED.sub(quote, text))


def names(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every name and its value."""
    for key, node in found.items():
        if isinstance(node, dict):
            yield from names(node, f"{prefix}{key}.")
        else:
            yield prefix + key, node


def slug(label: str) -> str:
    """Return a label as a name: lower-case words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def _cells(line: str) -> list[str]:
    # Bold marks the best value of a row and is no part of it.
    return [cell.strip().strip("*") for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _put(found: dict[str, Any], path: list[str], value: str) -> None:
    *parents, key = map(slug, path)
    node = found
    for parent in parents:
        node = node.setdefault(parent, {})
    if node.get(key, value) != value:
        msg = f"Two cells of the results are named {'.'.join(map(slug, path))}: {node[key]!r} and {value!r}."
        raise ValueError(msg)
    node[key] = value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", metavar="FILE", help="list the names that begin with this")
    parser.add_argument("--write", action="store_true", help="update README.md and the pages under docs")
    arguments = parser.parse_args()
    found = read_results()
    if arguments.names:
        for name, text in names(found):
            if name.startswith(arguments.names):
                print(f"{name}  {text}")
    if arguments.write:
        for page in pages():
            text = page.read_text(encoding="utf-8")
            if (current := rewritten(text, found)) != text:
                page.write_text(current, encoding="utf-8")


if __name__ == "__main__":
    main()
