"""What the package offers, how it is called, and what an import costs."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import scquery_ae as scq

HEAVY = ("tensorflow", "keras", "jax", "torch", "matplotlib", "scanpy", "faiss", "sklearn", "pymilvus", "dask")


def fresh(code):
    """Run code in a process of its own and return what it prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def public_functions():
    """Every function in the ``__all__`` of pp, tl and pl."""
    for room in ("pp", "tl", "pl"):
        module = importlib.import_module(f"scquery_ae.{room}")
        for name in getattr(module, "__all__", ()):
            function = getattr(module, name)
            if inspect.isfunction(function):
                yield pytest.param(room, function, id=f"{room}.{name}")


FUNCTIONS = list(public_functions())


def test_an_import_is_light():
    loaded = fresh(f"import sys, scquery_ae; print(*[m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == []


def test_rooms_that_need_no_keras_load_none():
    code = (
        "import sys, scquery_ae as sq; scq.pp, scq.tl, scq.stats, scq.datasets, scq.Reference, scq.Encoder;"
        "print(*[m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    )
    assert fresh(code) == []


def test_dir_and_all_agree_and_every_name_is_there():
    assert dir(scq) == sorted(scq.__all__)
    assert len(set(scq.__all__)) == len(scq.__all__)
    for name in scq.__all__:
        assert getattr(scq, name) is not None


def test_all_is_complete():
    from scquery_ae import _HOMES, _MODULES

    assert set(scq.__all__) == {*_HOMES, *_MODULES, "__version__"}
    assert {"pp", "tl", "pl", "nn", "stats", "datasets", "Encoder", "Reference"} <= set(scq.__all__)


@pytest.mark.parametrize("room", ["datasets", "index", "loaders", "pp", "reference", "stats", "tl", "training"])
def test_each_room_lists_what_it_imports(room):
    module = importlib.import_module(f"scquery_ae.{room}")
    inside = {name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)}
    # A submodule of the same name as its function is shadowed by it, as in tl.query.
    assert inside - {"annotations"} == set(module.__all__)
    # Constants, classes, functions, as ruff has them.
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))


def names_in(path):
    """What an editor reads off a package's file without running it: what it imports or defines, and its ``__all__``."""
    found, listed = {}, None
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            body.extend(node.body)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scquery_ae"):
            found |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            found[node.name] = "here"
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = "here"
        elif isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            listed = ast.literal_eval(node.value)
        elif isinstance(node, ast.Assign) and not node.targets[0].id.startswith("_"):
            found[node.targets[0].id] = "here"
    return found, listed


PACKAGES = sorted(Path(scq.__file__).parent.rglob("__init__.py"))


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_an_editor_sees_what_is_offered(path):
    found, listed = names_in(path)
    assert listed is not None
    assert len(set(listed)) == len(listed)
    assert set(found) == set(listed)


def test_an_editor_finds_each_name_where_it_comes_from():
    found, _ = names_in(Path(scq.__file__))
    assert found.pop("__version__") == "here"
    homes = {name: f"scquery_ae.{home}" for name, home in scq._HOMES.items()}
    assert found == homes | dict.fromkeys(scq._MODULES, "scquery_ae")


# Editors that use no language server complete with jedi; IPython, which the tests need for the tutorials, brings it.
def completions(code):
    jedi = pytest.importorskip("jedi")
    return {completion.name for completion in jedi.Script(code).complete() if not completion.name.startswith("__")}


def test_editors_complete_the_names():
    assert completions("import scquery_ae as scq\nsq.") >= set(scq.__all__) - {"__version__"}
    assert completions("import scquery_ae as scq\nsq.pl.") >= set(scq.pl.__all__)
    assert completions("import scquery_ae as scq\nsq.Reference.") >= {"add", "merge", "relabel", "remove", "save"}


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_editors_complete_the_signatures(room, function):
    jedi = pytest.importorskip("jedi")
    (call,) = jedi.Script(f"import scquery_ae as scq\nsq.{room}.{function.__name__}(").get_signatures()
    assert [parameter.name for parameter in call.params] == list(inspect.signature(function).parameters)
    assert call.docstring(raw=True) == inspect.getdoc(function)


@pytest.mark.parametrize("name", ["pp", "tl", "pl"])
def test_the_users_calls_are_there(name):
    expected = {
        "pp": {"CheckReport", "align_genes", "check", "normalize"},
        "tl": {"audit", "build_reference", "coarsen", "embed", "explain", "finetune", "pretrain", "query"},
        "pl": {
            "composition",
            "confusion",
            "embedding",
            "explain",
            "history",
            "neighbors_by_batch",
            "on_reference",
            "check",
            "query",
            "reliability",
            "report",
            "risk_coverage",
        },
    }
    assert expected[name] <= set(getattr(scq, name).__all__)


def test_every_module_says_what_it_is_for():
    undocumented = [
        info.name
        for info in pkgutil.walk_packages(scq.__path__, "scquery_ae.")
        if not info.name.endswith("__main__") and not importlib.import_module(info.name).__doc__
    ]
    assert undocumented == []


def test_an_unknown_name_gets_the_list_of_names():
    with pytest.raises(AttributeError, match=r"module 'scquery_ae' has no attribute 'qurey'; it offers .*pp.*tl"):
        _ = scq.qurey


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert scq.__version__ == version("scquery-ae")


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_calls_take_adata_first_and_few_things_by_position(room, function):
    parameters = list(inspect.signature(function).parameters.values())
    if room in ("pp", "tl"):
        assert parameters[0].name == "adata"
    assert parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert 1 <= len(positional) <= 3
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters[len(positional) :])
    # What may be left out is named; only what must be given goes by position.
    if room in ("pp", "tl"):
        assert all(p.default is inspect.Parameter.empty for p in positional)


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_calls_are_typed_throughout(room, function):
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_shared_words_mean_the_same_everywhere(room, function):
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
        "batch_key": None,
        "progress": True,
    }
    for name, default in defaults.items():
        if name in parameters and parameters[name].default is not inspect.Parameter.empty:
            assert parameters[name].default == default, name


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_docstrings_name_every_parameter_and_have_their_sections(room, function):
    doc = inspect.getdoc(function)
    assert doc.splitlines()[0].endswith(".")
    lines = doc.splitlines()
    for section in ("Parameters", "Returns", "Raises"):
        assert section in lines, section
        at = lines.index(section)
        assert set(lines[at + 1]) == {"-"}
        assert len(lines[at + 1]) == len(section)
    # Names stand at the margin of the Parameters section, several to a line where they belong together.
    start, end = lines.index("Parameters") + 2, lines.index("Returns")
    documented = [
        name.strip().lstrip("*")
        for line in lines[start:end]
        if line and not line.startswith(" ")
        for name in line.split(":")[0].split(",")
    ]
    assert documented == list(inspect.signature(function).parameters)


def test_the_package_is_typed():
    from importlib.resources import files

    assert files("scquery_ae").joinpath("py.typed").is_file()
