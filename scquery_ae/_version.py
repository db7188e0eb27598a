"""The version of the installed package; ``pyproject.toml`` is its only source."""

from importlib.metadata import version

__version__ = version("scquery-ae")
