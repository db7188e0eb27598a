"""A release has one version, declared dependencies, and a complete wheel."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import scquery_ae as scq

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted((ROOT / "scquery_ae").rglob("*.py"))
CORE = [Requirement(text) for text in PROJECT["dependencies"]]

#: Distribution of each module with another name. pymilvus requires grpc.
DISTRIBUTION = {"faiss": "faiss-cpu", "grpc": "pymilvus", "sklearn": "scikit-learn"}


@pytest.fixture(scope="module")
def dev():
    """dev.py as a module. The sdist contains the tests, but not dev.py."""
    if not (ROOT / "dev.py").is_file():
        pytest.skip("dev.py is not in the source distribution")
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names_of(requirements):
    return {canonicalize_name(requirement.name) for requirement in requirements}


# Version


def test_the_installed_package_has_the_version_of_the_project_file():
    assert scq.__version__ == PROJECT["version"]
    assert str(Version(PROJECT["version"])) == PROJECT["version"]


def test_the_citation_has_the_same_version():
    versions = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions == [PROJECT["version"]]


def test_no_other_file_defines_a_version():
    places = [*SOURCES, *(path for path in [ROOT / "docs" / "conf.py"] if path.is_file())]
    written = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in places
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and {getattr(target, "id", None) for target in node.targets} & {"__version__", "release", "version"}
    ]
    assert written == []


def test_pages_name_no_other_version():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]
    named = [
        (path.name, version)
        for path in pages
        for version in re.findall(r"scquery[-_]ae\s*(?:==|>=|~=|-)\s*v?(\d+\.\d+\S*)", path.read_text(encoding="utf-8"))
        if not version.startswith(PROJECT["version"])
    ]
    assert named == []


def test_the_changelog_lists_releases_from_new_to_old():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    released = [
        re.fullmatch(r"\[(\S+)\] - (\d{4}-\d{2}-\d{2})", heading) for heading in headings if "Unreleased" not in heading
    ]
    assert all(released), headings
    assert [i for i, heading in enumerate(headings) if heading == "[Unreleased]"] in ([], [0])
    assert all(
        Version(later[1]) > Version(earlier[1]) and later[2] >= earlier[2] for later, earlier in pairwise(released)
    )
    # No release is newer than the version of the project file.
    assert all(Version(match[1]) <= Version(PROJECT["version"]) for match in released)
    assert headings[0] in ("[Unreleased]", f"[{PROJECT['version']}] - {released[0][2] if released else ''}")


# Dependencies


def third_party_imports():
    """Return the distributions imported at the top level of a module, and those imported elsewhere."""
    always, later = {}, {}
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top != "scquery_ae":
                    found = always if node in tree.body else later
                    found.setdefault(canonicalize_name(DISTRIBUTION.get(top, top)), path.relative_to(ROOT).as_posix())
    return always, later


def test_every_import_is_declared():
    always, later = third_party_imports()
    assert {"numpy", "keras", "scikit-learn"} <= set(always)
    assert {"pymilvus", "zarr", "dask"} <= set(later)
    core = names_of(CORE)
    extras = names_of(
        Requirement(text) for extra in ("milvus", "scale") for text in PROJECT["optional-dependencies"][extra]
    )
    assert {name: path for name, path in always.items() if name not in core} == {}
    assert {name: path for name, path in later.items() if name not in core | extras} == {}


def test_every_dependency_has_a_lowest_version_and_no_highest():
    everything = [
        *PROJECT["dependencies"],
        *(text for extra in PROJECT["optional-dependencies"].values() for text in extra),
    ]
    loose = [
        text
        for text in everything
        if Requirement(text).name != PROJECT["name"]
        and [specifier.operator for specifier in Requirement(text).specifier] not in ([">="], ["=="])
    ]
    assert loose == []


def test_every_test_that_minimum_names_exists(dev):
    for name in (*dev.QUICK, *dev.NOT_QUICK):
        path, _, test = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), name


# The wheel


@pytest.fixture
def files():
    """The content of a complete wheel, as hatchling writes it."""
    about = f"scquery_ae-{PROJECT['version']}.dist-info/"
    package = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / "scquery_ae").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return package | {about + name: b"" for name in ("METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE")}


def archive(path, files):
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return path


def test_a_complete_wheel_has_no_faults(dev, files, tmp_path):
    assert dev.faults(archive(tmp_path / "a.whl", files), archive(tmp_path / "b.whl", files)) == []


@pytest.mark.parametrize(
    "missing", ["scquery_ae/py.typed", "scquery_ae/tl/query.py", "entry_points.txt", "licenses/LICENSE"]
)
def test_missing_files_are_named(dev, files, tmp_path, missing):
    left = {name: data for name, data in files.items() if not name.endswith(missing)}
    assert len(left) == len(files) - 1
    wheel = archive(tmp_path / "a.whl", left)
    (found,) = dev.faults(wheel, wheel)
    assert found.endswith(f"{missing} is missing")


def test_surplus_files_are_named(dev, files, tmp_path):
    wheel = archive(tmp_path / "a.whl", files | {"tests/conftest.py": b"", "scquery_ae/tl/test_query.py": b""})
    assert dev.faults(wheel, wheel) == [
        "scquery_ae/tl/test_query.py does not belong there",
        "tests/conftest.py does not belong there",
        "scquery_ae/tl/test_query.py is a test",
        "tests/conftest.py is a test",
    ]


def test_a_difference_between_the_two_wheels_is_named(dev, files, tmp_path):
    changed = archive(tmp_path / "a.whl", files | {"scquery_ae/__init__.py": b"other"})
    assert dev.faults(changed, archive(tmp_path / "b.whl", files)) == [
        "scquery_ae/__init__.py differs between the wheel from the sdist and that from this folder"
    ]


# Contributing


def test_the_recipes_name_files_and_tests_that_exist():
    page = ROOT / "CONTRIBUTING.md"
    if not page.is_file():
        pytest.skip("CONTRIBUTING.md is not in the source distribution")
    named = re.findall(r"`([^`\s]+)`", page.read_text(encoding="utf-8"))
    paths = [name for name in named if re.fullmatch(r"[\w./]+\.(py|md|toml)|[\w]+/", name)]
    assert len(paths) > 30
    beside = [ROOT, ROOT / "scquery_ae", ROOT / "scquery_ae" / "pl", ROOT / "tests" / "tl", ROOT / "tests" / "cli"]
    assert [path for path in paths if not any((folder / path).exists() for folder in beside)] == []
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert [
        name
        for name in named
        if name.startswith("test_") and f"def {name.removesuffix('.py')}" not in sources and not name.endswith(".py")
    ] == []
