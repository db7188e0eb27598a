"""Set up a virtual environment and run a command in it, starting from a bare Python.

    python dev.py demo      run the demo on a small dataset
    python dev.py test      run the tests, in as many processes as there are cores (four at most)
    python dev.py check     check words, formatting, lint, types and import contracts
    python dev.py docs      build the documentation into docs/_build/html
    python dev.py backends  run the contract tests of every layer on JAX and PyTorch
    python dev.py minimum   run quick tests on Python 3.11 with the lowest versions that pyproject.toml allows
    python dev.py wheel     build the sdist and the wheel into dist, and run the demo from the installed wheel

Further arguments are passed on: ``python dev.py test -k query``, or ``python dev.py test -n 0 --pdb`` to debug in one
process. The virtual environment is ``.venv`` beside this file. It is created on the first run and updated when
pyproject.toml changes. ``minimum`` uses ``build/minimum``. ``wheel`` uses temporary folders (two gigabytes; set
``TMPDIR`` to move them).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
PACKAGE = "scquery_ae"
ENVIRONMENT = ROOT / ".venv"
MINIMUM = ROOT / "build" / "minimum"
PROGRAMS = "Scripts" if os.name == "nt" else "bin"
SUPPORTED = ((3, 11), (3, 13))

EXTRAS = {"demo": "", "test": "[test]", "check": "[dev]", "docs": "[docs]", "backends": "[backends,test]"}
COMMANDS = {
    "demo": [["-m", "scquery_ae", "demo"]],
    # Each file stays in one process, because its tests use the same fixtures. Files with slow tests come first, so the
    # processes end at about the same time. A process with TensorFlow takes about a gigabyte of memory.
    "test": [["-m", "pytest", "-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]],
    "check": [
        ["lint/words.py"],
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
    ],
    "docs": [["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html"]],
    "backends": [["-m", "pytest", "-m", "contract", "tests/nn"]],
    # Old versions emit warnings that newer versions do not.
    "minimum": [["-m", "pytest", "-q", "-m", "not slow and not realdata", "-o", "filterwarnings=default"]],
}
#: Tests that ``minimum`` runs: every room of the package, nothing that needs an extra.
QUICK = [
    "tests/test_encoder.py",
    "tests/test_genes.py",
    "tests/test_input_state.py",
    "tests/test_ontology.py",
    "tests/test_transform.py",
    "tests/cli/test_help.py",
    "tests/datasets",
    "tests/index/test_exact.py",
    "tests/nn/test_dense_autoencoder.py",
    "tests/pl/test_query.py",
    "tests/pp",
    "tests/reference/test_bundle.py",
    "tests/stats",
    "tests/tl/test_build_reference.py",
]
#: Tests among these that fail with the lowest versions for reasons outside the package.
NOT_QUICK = [
    # Needs the extra `scale`.
    "tests/pp/test_variable_genes.py::test_counts_on_disk_and_in_memory_choose_the_same",
    # anndata 0.11 looks for PyTorch, which the test counts as an import.
    "tests/reference/test_bundle.py::test_a_query_runs_where_keras_and_tensorflow_cannot_be_imported",
    # click 8.2 suggests `-h`, later versions `--help`.
    "tests/cli/test_help.py::test_a_misspelt_command_gets_the_right_one",
]
#: Environment variable and its values. The command runs once with each value.
VARIANTS = {"backends": ("KERAS_BACKEND", ("jax", "torch"))}


def main() -> int:
    """Run the command named on the command line; return its exit code."""
    if len(sys.argv) < 2 or sys.argv[1] not in (*COMMANDS, "wheel"):
        print(__doc__)
        return 2
    low, high = SUPPORTED
    if not low <= sys.version_info[:2] <= high:
        print(
            f"scquery_ae runs on Python {low[0]}.{low[1]} to {high[0]}.{high[1]}; this is {sys.version.split()[0]}. "
            f"Call this file with another Python, for example python{high[0]}.{high[1]} dev.py {sys.argv[1]}"
        )
        return 2
    command, arguments = sys.argv[1], sys.argv[2:]
    # Hides TensorFlow's messages about the processor.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    if command == "wheel":
        return release(arguments, environment)
    if command == "minimum":
        if sys.version_info[:2] != low:
            print(f"The lowest versions exist for Python {low[0]}.{low[1]} only; this is {sys.version.split()[0]}.")
            return 2
        python, installed = python_of(MINIMUM), install(MINIMUM, "", *lowest())
        arguments = arguments or [*QUICK, *(f"--deselect={test}" for test in NOT_QUICK)]
    else:
        python, installed = python_of(ENVIRONMENT), install(ENVIRONMENT, EXTRAS[command])
    if not installed:
        return 1
    variable, values = VARIANTS.get(command, ("", ("",)))
    for value in values:
        for step in COMMANDS[command]:
            variant = {variable: value} if variable else {}
            code = subprocess.run([python, *step, *arguments], check=False, env=environment | variant).returncode
            if code:
                return code
    return 0


def python_of(environment: Path) -> Path:
    """Return the Python of a virtual environment."""
    return environment / PROGRAMS / ("python.exe" if os.name == "nt" else "python")


def install(environment: Path, extra: str, *pins: str) -> bool:
    """Install the package with `extra` and the versions `pins` into an environment; return whether that worked."""
    if not python_of(environment).exists() or not (environment / "pyvenv.cfg").exists():
        print(f"creating a virtual environment in {environment}", flush=True)
        venv.create(environment, with_pip=True, clear=True)
    stamp = environment / f"installed{extra.strip('[]') and '-' + extra.strip('[]')}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    print("installing scquery_ae and its dependencies (TensorFlow is about 600 MB; this takes minutes)", flush=True)
    if pip(python_of(environment), "--editable", f"{ROOT}{extra}", *pins):
        print("The installation failed for the reason above. Check the network and run the command again.")
        return False
    stamp.write_text(wanted)
    return True


def pip(python: Path, *arguments: str | Path) -> int:
    """Install with pip; return its exit code."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=False).returncode


def project() -> dict[str, Any]:
    """Return the table ``project`` of pyproject.toml."""
    import tomllib  # missing before Python 3.11, which `main` refuses

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lowest() -> list[str]:
    """Return pins of each dependency, and of pytest and Hypothesis, to the lowest allowed version."""
    tools = [tool for tool in project()["optional-dependencies"]["test"] if tool.startswith(("hypothesis>", "pytest>"))]
    return [requirement.replace(">=", "==") for requirement in (*project()["dependencies"], *tools)]


def release(arguments: list[str], environment: dict[str, str]) -> int:
    """Build the sdist and the wheel, check their content, run the demo from the wheel; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tools, clean, empty = work / "tools", work / "clean", work / "empty"
        print("building the sdist, the wheel from it, and the wheel from this folder", flush=True)
        venv.create(tools, with_pip=True)
        build = [python_of(tools), "-m", "build", "--outdir"]
        if (
            pip(python_of(tools), "build>=1.2")
            or subprocess.run([*build, work / "dist", ROOT], check=False).returncode
            or subprocess.run([*build, work / "direct", "--wheel", ROOT], check=False).returncode
        ):
            return 1
        (wheel,) = (work / "dist").glob("*.whl")
        (direct,) = (work / "direct").glob("*.whl")
        if found := faults(wheel, direct):
            print("The content of the wheel is wrong:", *found, sep="\n  ")
            return 1

        print("installing the wheel into a new environment", flush=True)
        venv.create(clean, with_pip=True)
        if pip(python_of(clean), wheel):
            return 1
        empty.mkdir()
        # The demo must not import the package from this folder.
        environment = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
        look = f"import {PACKAGE}; print({PACKAGE}.__file__, {PACKAGE}.__version__)"
        seen = subprocess.run(
            [python_of(clean), "-c", look], check=False, cwd=empty, env=environment, capture_output=True, text=True
        )
        path, _, version = seen.stdout.strip().rpartition(" ")
        if seen.returncode or clean.resolve() not in Path(path).resolve().parents or version != project()["version"]:
            print(f"Python does not import the installed wheel: {seen.stdout}{seen.stderr}")
            return 1
        program = clean / PROGRAMS / project()["name"]
        code = subprocess.run([program, "demo", *arguments], check=False, cwd=empty, env=environment).returncode
        if code or not any((empty / "scquery_demo").glob("*.h5ad")):
            print("The demo of the installed wheel failed.")
            return code or 1
        for built in (work / "dist").iterdir():
            (ROOT / "dist").mkdir(exist_ok=True)
            shutil.copy2(built, ROOT / "dist")
            print(f"checked {ROOT / 'dist' / built.name}")
    return 0


def faults(wheel: Path, direct: Path) -> list[str]:
    """Return the faults of a wheel that was built from the sdist. `direct` is the wheel built from this folder."""
    built, expected = contents(wheel), contents(direct)
    about = f"{PACKAGE}-{project()['version']}.dist-info/"
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    needed = here | {
        f"{PACKAGE}/py.typed",
        *(about + name for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")),
    }
    return [
        *(f"{name} is missing" for name in sorted(needed - set(built))),
        *(f"{name} does not belong there" for name in sorted(set(built) - here) if not name.startswith(about)),
        *(f"{name} is a test" for name in sorted(built) if Path(name).name.startswith(("test_", "conftest"))),
        *(
            f"{name} differs between the wheel from the sdist and that from this folder"
            for name in sorted(set(built) | set(expected))
            if built.get(name) != expected.get(name)
        ),
    ]


def contents(archive: Path) -> dict[str, bytes]:
    """Return the files of a zip archive by name."""
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}


if __name__ == "__main__":
    sys.exit(main())
