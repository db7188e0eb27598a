"""Numbers in pages that look measured and are not quoted from ``benchmarks/results/``.

    python benchmarks/prose.py README.md docs/*.md       # list them

A measured number in a page stands between the markers of ``values.py``. A setting is written as
code (`` `0.05` ``) or mathematics (``$0.05$``). This module finds decimals, percentages, multiples ("21 times"),
durations, rates and amounts of memory in what is left of the prose. ``tests/test_benchmarks.py`` fails where it finds
one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

#: What holds numbers that are no claims about results. Longer constructs come first.
IGNORED = re.compile(
    "|".join(
        (
            r"\A---\n.*?\n---\n",  # front matter
            r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[^\S\n]*$",  # code and directives
            r"<!-- value: [\w.]+ -->.*?<!-- /value -->",
            r"<!-- table: [\w.]+ -->.*?<!-- /table -->",
            r"<!--.*?-->",
            r"\$\$.*?\$\$",
            r"\$[^$\n]+\$",
            r"(?P<ticks>`+).+?(?P=ticks)",
            r"\]\([^)]*\)",  # targets of links
            r"https?://\S+",
            r"\b10\.\d{4,}/\S+",  # digital object identifiers
            r"\b95 % (?:confidence )?intervals?\b",
            r"\bPython 3\.\d+(?:(?:,| or| and| to) 3\.\d+)*",
            r"\b(?:Keras|NumPy|Zarr|annbatch|anndata|scanpy|scvi-tools|scVI|CellTypist|CC BY) v?\d+(?:\.\d+)*",
            r"\b\d+\.\d+\.\d+\b",  # versions
        )
    ),
    re.DOTALL | re.MULTILINE,
)
UNITS = r"cells/s|queries/s|cells (?:a|per) second|s|ms|µs|seconds|hours|MiB|GiB|bytes (?:a|per) cell"
MEASURED = re.compile(
    rf"(?<![\w.,:/-])(?:[-+]?\d*\.\d+(?!\w)|\d[\d,]*(?:\.\d+)? ?%|\d[\d,.]* times\b|\d[\d,.]* (?:{UNITS})(?![\w/]))"
)


def unquoted(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each number of a page that looks measured and is not quoted."""
    # Newlines are kept, so that lines keep their numbers.
    prose = IGNORED.sub(lambda match: "\n" * match[0].count("\n") or " ", text)
    for match in MEASURED.finditer(prose):
        yield prose.count("\n", 0, match.start()) + 1, match[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    found = 0
    for page in parser.parse_args().pages:
        for line, number in unquoted(page.read_text(encoding="utf-8")):
            print(f"{page}:{line}: {number}")
            found += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
