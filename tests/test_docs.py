"""The blocks of README and pages run in reading order, the pages link to each other, and the API pages are complete."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from matplotlib import pyplot as plt

import scquery_ae as scq

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

# The source distribution contains the tests but not the pages.
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the folder docs is not part of a source distribution")

#: Defaults of the training calls on all pages after the README, to save time. Every call is the reader's.
FEW_EPOCHS = {"pretrain": 1, "finetune": 2}

FENCE = re.compile(r"^(?P<before>[^\n]*)\n```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
TOCTREE = re.compile(r"^```\{toctree\}\n(?P<entries>.*?)^```$", re.MULTILINE | re.DOTALL)


def reading_order(page: Path = DOCS / "index.md") -> Iterator[Path]:
    """Yield a page and the pages of its tables of contents, depth first, without notebooks and generated pages."""
    yield page
    for contents in TOCTREE.finditer(page.read_text(encoding="utf-8")):
        for line in contents["entries"].splitlines():
            name = re.sub(r".*<(.*)>", r"\1", line.strip())
            below = page.parent / f"{name}.md"
            if name and not name.startswith(":") and below.is_file():
                yield from reading_order(below)


PAGES = list(reading_order()) if DOCS.is_dir() else []


def blocks(page: Path) -> list[str]:
    """Return the Python blocks of a page, each at its own line, without those after ``<!-- fragment: ... -->``."""
    text = page.read_text(encoding="utf-8")
    # Empty lines before a block make tracebacks name the line of the page.
    return [
        "\n" * text.count("\n", 0, match.start("code")) + match["code"]
        for match in FENCE.finditer(text)
        if not match["before"].startswith("<!-- fragment: ")
    ]


def run(page: Path) -> dict[str, object]:
    """Run the blocks of a page in one namespace and return it."""
    names: dict[str, object] = {"__name__": "__main__"}
    for code in blocks(page):
        exec(compile(code, page.name, "exec"), names)
    plt.close("all")
    return names


@pytest.mark.slow
def test_pages_run_in_reading_order_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], eager: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scq.settings, "verbosity", scq.settings.verbosity)  # a page raises it
    for call in FEW_EPOCHS:
        monkeypatch.setitem(getattr(scq.tl, call).__kwdefaults__, "progress", False)
    readme = run(ROOT / "README.md")
    assert readme["query"].obs["scquery_label"].notna().all()  # type: ignore[attr-defined]

    landing, *pages = reading_order()
    assert blocks(landing) == []  # it includes the README's block
    for call, epochs in FEW_EPOCHS.items():
        monkeypatch.setitem(getattr(scq.tl, call).__kwdefaults__, "epochs", epochs)
    for page in pages:
        capsys.readouterr()
        run(page)
        if page.stem == "quickstart":
            lines = capsys.readouterr().out.splitlines()
            assert_shows(page, [line for line in lines if not VARIES.match(line)])


#: Lines of ``pp.check`` whose numbers depend on training, which differs in the last digits between machines.
VARIES = re.compile(r"expected|weak types")


def assert_shows(page: Path, lines: list[str]) -> None:
    """Check that a page shows lines of output, whatever their line breaks and columns."""
    text = " ".join(page.read_text(encoding="utf-8").split())
    missing = [line for line in lines if " ".join(line.split()) not in text]
    assert lines
    assert missing == []


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {page.relative_to(DOCS).as_posix() for page in reading_order()}
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.glob("**/*.md")}
    generated = {name for name in written if name.startswith(("results/", "_build/", "api/generated/"))}
    assert written - generated - listed == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if "://" in target or name.startswith("results/"):
            continue
        if page.parent.name == "tutorials" and file.suffix == ".ipynb":
            # The build of the pages copies the notebooks there.
            file = ROOT / "tutorials" / file.name
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_no_line_begins_with_a_marker_of_a_value(page: Path) -> None:
    # Markdown would end the paragraph there.
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^[\s>]*(?:[-*+] +|\d+[.)] +)?<!-- /?value.*", text, re.MULTILINE) == []


def test_at_least_half_of_the_blocks_of_a_guide_run() -> None:
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
        ("report", "report"),
    ],
)
def test_api_pages_name_everything_that_a_module_offers(page: str, module: str) -> None:
    words = set(re.findall(r"\w+", (DOCS / "api" / f"{page}.md").read_text(encoding="utf-8")))
    offered = set(importlib.import_module(f"scquery_ae.{module}").__all__)
    assert offered - words == set()


def test_api_pages_name_all_public_names() -> None:
    pages = ("core", "errors", "index")
    words = {
        word for page in pages for word in re.findall(r"\w+", (DOCS / "api" / f"{page}.md").read_text(encoding="utf-8"))
    }
    assert set(scq.__all__) - words == {"__version__"}


def test_api_pages_list_only_names_that_exist() -> None:
    for page in (DOCS / "api").glob("*.md"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith(".. currentmodule:: "):
                module = line.split()[-1]
            elif module and re.fullmatch(r"   [\w.]+", line):
                found: object = importlib.import_module(module)
                for part in line.split()[0].split("."):
                    found = getattr(found, part)


def test_the_page_on_the_command_line_lists_all_commands_and_exit_codes() -> None:
    from scquery_ae.cli import main
    from scquery_ae.cli.exit_codes import EXIT_CODES

    page = (DOCS / "command_line.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == list(EXIT_CODES)
    rows = re.findall(r"^\| `.* \|", page, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([a-z]+)", row.split("|")[1])}
    assert listed == set(main.list_commands(click.Context(main)))


def test_the_installation_page_lists_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = re.findall(r"^\| `(\w+)` \|", (DOCS / "install.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*listed, "test"} == set(project["optional-dependencies"])


def architecture(number: int) -> str:
    """Return a plain block of the page on the architecture."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[number]


def test_the_architecture_page_lists_every_module() -> None:
    package = Path(scq.__file__).parent
    modules = {path.name for path in package.iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py"}
    listed = re.findall(r"^  ([\w.]+/?(?: \w+/)*) ", architecture(0), re.MULTILINE)
    assert {name.rstrip("/") for names in listed for name in names.split()} == modules


def test_the_architecture_page_lists_the_layers_of_the_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert [set(line.split()) for line in architecture(1).splitlines()] == [
        set(re.findall(r"\w+", layer)) for layer in layers
    ]
