"""Defaults and choices of the Python calls, read from their source so that the help need not import them."""

from __future__ import annotations

import ast
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _source(module: str) -> ast.Module:
    path = module.replace(".", "/") + ".py"
    return ast.parse((files("scquery_ae") / path).read_text(encoding="utf-8"))


@cache
def defaults(function: str) -> dict[str, Any]:
    """Return the defaults of a function's keyword-only arguments, such as those of ``"tl.query.query"``.

    The name of a method includes its class, as in ``"reference.reference.Reference.add"``.
    """
    parts = function.split(".")
    # Module names are lower case, unlike classes; the last part is the function.
    module = [part for part in parts[:-1] if part.islower()]
    node: Any = _source(".".join(module))
    for name in parts[len(module) :]:
        node = next(child for child in node.body if getattr(child, "name", None) == name)
    found = {}
    for argument, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if isinstance(value, ast.Name):
            found[argument.arg] = constant(f"{'.'.join(module)}.{value.id}")
        elif value is not None:
            found[argument.arg] = ast.literal_eval(value)
    return found


def constant(name: str) -> Any:
    """Return a constant that a module defines as a literal, such as ``"loaders.open.INPUT_STATES"``."""
    module, _, own = name.rpartition(".")
    for node in _source(module).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == own for target in targets):
            return ast.literal_eval(node.value)  # type: ignore[attr-defined]
    msg = f"scquery_ae.{module} defines no constant {own} as a literal"
    raise LookupError(msg)
