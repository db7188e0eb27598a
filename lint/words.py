"""Refuse words that the vocabulary of this package has replaced: in names, texts, comments, pages and notebooks.

    python lint/words.py            every file that git tracks, or would
    python lint/words.py FILE ...   these files

The words are in ``words.toml`` beside this file. codespell was no substitute: it knows single words and no places where
one is innocent. vale reads prose but no identifiers.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("words.toml")
TEXT = {
    *(".py", ".pyi", ".md", ".ipynb", ".rst", ".txt", ".toml", ".cff", ".yml", ".yaml", ".sh", ".html", ".css", ".js"),
    *(".csv", ".json", ".svg", ".j2", ""),
}


@dataclass(frozen=True)
class Word:
    """One entry of the list. See the comments in ``words.toml`` for the fields."""

    row: str
    use: str
    pattern: str
    refused: tuple[str, ...]
    innocent: tuple[str, ...] = ()
    unless: str = r"(?!)"
    allow: tuple[str, ...] = ()

    def find(self, line: str) -> str | None:
        """Return the first place in a line that the entry refuses."""
        if match := re.search(self.pattern, re.sub(self.unless, "", line, flags=re.IGNORECASE), re.IGNORECASE):
            return match.group()
        return None


def read_list(path: Path = LIST) -> tuple[list[Word], list[str]]:
    """Return the entries, and patterns of files that are not checked."""
    listed = tomllib.loads(path.read_text(encoding="utf-8"))
    tuples = ({key: tuple(v) if isinstance(v, list) else v for key, v in word.items()} for word in listed["word"])
    return [Word(**fields) for fields in tuples], listed["ignore"]


def files() -> list[str]:
    """Return the files that git tracks or would track, relative to the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(name for name in set(listed) if Path(name).suffix in TEXT and (ROOT / name).is_file())


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each line of a file with its place. The images in a notebook's outputs are left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        for number, line in enumerate(text.splitlines(), 1):
            yield str(number), line
        return
    for number, cell in enumerate(json.loads(text)["cells"], 1):
        outputs = [text for output in cell.get("outputs", ()) for text in _texts(output)]
        for part in ("".join(cell["source"]), *outputs):
            for line in part.splitlines():
                yield f"cell {number}", line


def _texts(output: dict[str, Any]) -> Iterator[str]:
    held = {"text/plain": output.get("text", ""), **output.get("data", {})}
    return ("".join(value) for kind, value in held.items() if kind.startswith("text/"))


def check(names: Iterable[str], root: Path = ROOT) -> Iterator[str]:
    """Yield one message for each refused word in the files and in their names."""
    words, ignored = read_list()
    for name in names:
        if _matches(name, ignored):
            continue
        relevant = [word for word in words if not _matches(name, word.allow)]
        for place, line in (("its name", name), *lines(root / name)):
            for word in relevant:
                if found := word.find(line):
                    yield f"{name}:{place}: {found!r}; use {word.use}: {line.strip()[:100]}"


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def main() -> int:
    """Print what is refused; return the exit code."""
    given = [Path(name).resolve().relative_to(ROOT).as_posix() for name in sys.argv[1:]]
    messages = list(check(given or files()))
    print(*messages, sep="\n", end="\n" if messages else "")
    if messages:
        print(f"{len(messages)} words that this package does not use. {LIST.relative_to(ROOT)} lists them.")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main())
