"""The command line: ``scquery-ae``.

One file a command; what they share is in ``options``, ``cells`` (reading), ``outputs`` (writing), ``say`` (what goes to
stdout and stderr) and ``failures`` (exit codes). Nothing but click is imported before a command runs.
"""

from scquery_ae.cli.group import main

__all__ = ["main"]
