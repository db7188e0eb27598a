"""Set up a virtual environment and run something in it, from a bare Python.

    python dev.py demo     run the main job on a small dataset
    python dev.py test     run the tests
    python dev.py check    lint, types and import contracts
    python dev.py backends the contract of every layer on JAX and PyTorch

Further arguments go to the command: ``python dev.py test -k query``. The environment is ``.venv`` beside this
file; it is made on the first run and updated when pyproject.toml changes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
SUPPORTED = ((3, 11), (3, 13))

EXTRAS = {"demo": "", "test": "[test]", "check": "[dev]", "backends": "[backends,test]"}
COMMANDS = {
    "demo": [["-m", "scquery_ae", "demo"]],
    "test": [["-m", "pytest"]],
    "check": [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
    ],
    "backends": [["-m", "pytest", "-m", "contract"]],
}
#: Values of an environment variable under which a command is run once each.
UNDER = {"backends": ("KERAS_BACKEND", ("jax", "torch"))}


def main() -> int:
    """Run the command named on the command line; return its exit code."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
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
    if not install(EXTRAS[command]):
        return 1
    # TensorFlow prints a page about the processor before the first line of ours.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    variable, values = UNDER.get(command, ("", ("",)))
    for value in values:
        for step in COMMANDS[command]:
            under = {variable: value} if variable else {}
            code = subprocess.run([PYTHON, *step, *arguments], check=False, env=environment | under).returncode
            if code:
                return code
    return 0


def install(extra: str) -> bool:
    """Make the environment hold the package with `extra`; return whether it does."""
    if not PYTHON.exists() or not (ENVIRONMENT / "pyvenv.cfg").exists():
        print(f"making a virtual environment in {ENVIRONMENT}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
    stamp = ENVIRONMENT / f"installed{extra.strip('[]') and '-' + extra.strip('[]')}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    print("installing scquery_ae and what it needs (TensorFlow is about 600 MB; some minutes)", flush=True)
    installed = subprocess.run(
        [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", f"{ROOT}{extra}"],
        check=False,
    )
    if installed.returncode:
        print("The installation failed; the lines above say why. Check the network and call this again.")
        return False
    stamp.write_text(wanted)
    return True


if __name__ == "__main__":
    sys.exit(main())
