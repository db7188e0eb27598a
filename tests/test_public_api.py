"""Public names, call signatures, docstrings, and the cost of an import."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import scquery_ae as scq

HEAVY = (
    *("tensorflow", "keras", "jax", "torch"),
    *("anndata", "dask", "faiss", "matplotlib", "numpy", "pandas", "pymilvus", "scanpy", "scipy", "sklearn"),
)
PACKAGES = sorted(Path(scq.__file__).parent.rglob("__init__.py"))


def modules_loaded(code, candidates):
    """Run code in a new process and return which of the candidate modules it loaded."""
    code = f"import sys\n{code}\nprint(*[module for module in {candidates!r} if module in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def public_functions():
    """Every function in the ``__all__`` of pp, tl, pl and report."""
    for room in ("pp", "tl", "pl", "report"):
        module = importlib.import_module(f"scquery_ae.{room}")
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function):
                yield pytest.param(room, function, id=f"{room}.{name}")


FUNCTIONS = list(public_functions())


# Imports


def test_importing_the_package_loads_no_dependency_but_lazy_loader():
    assert modules_loaded("import scquery_ae", HEAVY) == []


def test_rooms_that_need_no_keras_load_none():
    code = "import scquery_ae as scq; scq.pp, scq.tl, scq.stats, scq.datasets, scq.Reference, scq.Encoder"
    assert modules_loaded(code, ("tensorflow", "keras", "matplotlib")) == []


# Names


def imported_and_listed(path):
    """Return the names that a package's file imports from the package or defines, and its ``__all__``."""
    names, listed = [], None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.level or node.module.startswith("scquery_ae")):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            names.append(node.name)
        elif isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            listed = ast.literal_eval(node.value)
    return names, listed


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_all_lists_every_name_that_a_package_imports(path):
    stub = path.with_suffix(".pyi")
    names, listed = imported_and_listed(stub if stub.is_file() else path)
    assert sorted(names) == sorted(listed)
    # Constants, classes, functions: the order in which ruff sorts `__all__`.
    assert listed == sorted(listed, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


@pytest.mark.parametrize("path", [path for path in PACKAGES if path.with_suffix(".pyi").is_file()], ids=str)
def test_every_name_in_a_stub_can_be_imported(path):
    module = importlib.import_module(".".join(path.parent.relative_to(PACKAGES[0].parents[1]).parts))
    _, listed = imported_and_listed(path.with_suffix(".pyi"))
    assert sorted(module.__all__) == dir(module) == sorted(listed)
    for name in listed:
        assert getattr(module, name) is not None


def test_an_unknown_name_is_an_attribute_error_from_which_python_suggests_a_similar_one():
    with pytest.raises(AttributeError, match="No scquery_ae attribute qurey") as error:
        _ = scq.qurey
    # The traceback's "Did you mean" needs both.
    assert error.value.name == "qurey"
    assert error.value.obj is scq


# Signatures and docstrings


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_calls_have_at_most_three_positional_parameters_and_adata_is_the_first(room, function):
    parameters = list(inspect.signature(function).parameters.values())
    if room in ("pp", "tl"):
        assert parameters[0].name == "adata"
    assert parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert 1 <= len(positional) <= 3
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters[len(positional) :])
    # In pp and tl, only required parameters are positional.
    if room in ("pp", "tl"):
        assert all(p.default is inspect.Parameter.empty for p in positional)


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_a_parameter_has_the_same_default_in_every_call(room, function):
    parameters = inspect.signature(function).parameters
    defaults = {
        "key_added": "scquery",
        "random_state": 0,
        "copy": False,
        "layer": None,
        "gene_key": None,
        "input_state": "auto",
        "ignore_case": False,
        "orthologs": None,
        "n_neighbors": 15,
        "min_gene_overlap": 0.1,
        "progress": True,
    }
    if room != "pl":  # a plot by batch needs a column
        defaults["batch_key"] = None
    for name, default in defaults.items():
        if name in parameters and parameters[name].default is not inspect.Parameter.empty:
            assert parameters[name].default == default, name


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_docstrings_describe_every_parameter_and_have_their_sections(room, function):
    doc = inspect.getdoc(function)
    assert doc.splitlines()[0].endswith(".")
    lines = doc.splitlines()
    for section in ("Parameters", "Returns", "Raises"):
        assert section in lines, section
        at = lines.index(section)
        assert set(lines[at + 1]) == {"-"}
        assert len(lines[at + 1]) == len(section)
    # Names stand at the margin of the Parameters section, several to a line where they share a description.
    start, end = lines.index("Parameters") + 2, lines.index("Returns")
    documented = [
        name.strip().lstrip("*")
        for line in lines[start:end]
        if line and not line.startswith(" ")
        for name in line.split(":")[0].split(",")
    ]
    assert documented == list(inspect.signature(function).parameters)
