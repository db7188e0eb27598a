"""The blocks of the quickstart and the guides run as they stand, and the API pages leave nothing out."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

import scquery_ae as scq

DOCS = Path(__file__).resolve().parents[1] / "docs"

# The source distribution carries the tests without the pages.
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the folder docs is not here")

#: In an order in which each page finds the files that it goes on from.
GUIDES = ("confidence", "query", "moving", "unlabelled", "reference", "scale", "keras_layer")

#: Epochs for lack of time; every call is the reader's. Both training calls take the number as a default.
EPOCHS = {"pretrain": 1, "finetune": 2}

FENCE = re.compile(r"^(?P<before>[^\n]*)\n```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    """Return the Python blocks of a page, each at its own line, without those after ``<!-- fragment: ... -->``."""
    text = page.read_text(encoding="utf-8")
    # Empty lines before a block, so that a traceback names the line of the page.
    return [
        "\n" * text.count("\n", 0, match.start("code")) + match["code"]
        for match in FENCE.finditer(text)
        if not match["before"].startswith("<!-- fragment: ")
    ]


def run(page: Path) -> dict[str, object]:
    """Run a page from top to bottom and return what it leaves."""
    names: dict[str, object] = {"__name__": "__main__"}
    for code in blocks(page):
        exec(compile(code, page.name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the quickstart has run, with few epochs."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for call, epochs in EPOCHS.items():
            patch.setitem(getattr(scq.tl, call).__kwdefaults__, "epochs", epochs)
            patch.setitem(getattr(scq.tl, call).__kwdefaults__, "progress", False)
        left = run(DOCS / "quickstart.md")
        plt.close("all")
        assert left["query"].obs["scquery_label"].notna().all()  # type: ignore[attr-defined]
        yield folder
        plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_runs(name: str, working_folder: Path, eager: None) -> None:
    assert (working_folder / "pbmc.scq").is_dir()
    assert (working_folder / "mine.h5ad").is_file()
    run(DOCS / "guides" / f"{name}.md")
    plt.close("all")


def test_every_guide_is_run() -> None:
    assert sorted(GUIDES) == sorted(page.stem for page in (DOCS / "guides").glob("*.md"))


def test_at_least_half_of_the_blocks_run() -> None:
    for page in (DOCS / "quickstart.md", *(DOCS / "guides").glob("*.md")):
        written = page.read_text(encoding="utf-8").count("```python\n")
        assert len(blocks(page)) >= written / 2, page.name


def test_fragments_are_told_from_blocks_that_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("one\n```python\na = 1\n```\n<!-- fragment: why -->\n```python\nb = nonsense\n```\n")
    names = run(page)
    assert names["a"] == 1
    assert "b" not in names
    page.write_text("one\n\n```python\n\nboom()\n```\n")
    with pytest.raises(NameError, match="boom") as caught:
        run(page)
    assert caught.traceback[-1].lineno + 1 == 5


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("pp", "pp"),
        ("tl", "tl"),
        ("pl", "pl"),
        ("nn", "nn"),
        ("stats", "stats"),
        ("search", "index"),
        ("datasets", "datasets"),
    ],
)
def test_api_pages_name_all_that_a_room_offers(page: str, module: str) -> None:
    words = set(re.findall(r"\w+", (DOCS / "api" / f"{page}.md").read_text(encoding="utf-8")))
    offered = set(importlib.import_module(f"scquery_ae.{module}").__all__)
    assert offered - words == set()


def test_api_pages_name_all_public_names() -> None:
    pages = ("core", "errors", "index")
    words = {
        word for page in pages for word in re.findall(r"\w+", (DOCS / "api" / f"{page}.md").read_text(encoding="utf-8"))
    }
    assert set(scq.__all__) - words == {"__version__"}


def test_tables_list_nothing_that_is_not_there() -> None:
    for page in (DOCS / "api").glob("*.md"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith(".. currentmodule:: "):
                module = line.split()[-1]
            elif module and re.fullmatch(r"   [\w.]+", line):
                found: object = importlib.import_module(module)
                for part in line.split()[0].split("."):
                    found = getattr(found, part)
