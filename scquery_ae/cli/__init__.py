"""The command line: ``scquery-ae``.

Each command has a file of its own. They share ``options``, ``cells`` (reading), ``outputs`` (writing), ``console`` and
``layout`` (printing), ``exit_codes`` (errors) and ``caller`` (names in messages). Only click is imported before a
command runs.
"""

from scquery_ae.cli.group import main

__all__ = ["main"]
