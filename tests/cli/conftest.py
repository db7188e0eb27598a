"""A runner of commands."""

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from scquery_ae.cli import main


class Outcome:
    """What a command did."""

    def __init__(self, result):
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception

    @property
    def json(self):
        """The one JSON object on stdout; what is not JSON, such as NaN, is refused."""

        def refuse(name):
            raise AssertionError(name)

        return json.loads(self.out, parse_constant=refuse)

    def is_one_line(self, code, match):
        """Assert that it failed with one helpful line on stderr and nothing on stdout."""
        assert self.code == code, self.err
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: ")
        assert re.search(match, lines[0]), lines[0]

    def is_wrong_use(self, match):
        """Assert that it was refused as called wrongly, with click's pointer to the help."""
        assert self.code == 2, self.err
        assert self.out == ""
        assert "--help" in self.err
        assert re.search(match, self.err), self.err


@pytest.fixture
def run():
    """``run("query", path, ...)`` in this process."""

    def call(*arguments, input=None):  # noqa: A002
        return Outcome(CliRunner().invoke(main, [str(a) for a in arguments], input=input))

    return call


@pytest.fixture
def fresh():
    """``fresh("query", path, ...)`` in a process of its own."""

    def call(*arguments, **settings):
        command = [sys.executable, "-m", "scquery_ae", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **settings)

    return call
