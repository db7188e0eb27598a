"""Configuration of Sphinx. ``python dev.py docs`` builds the pages."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import inspect, logging
from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Hide TensorFlow's startup messages. This must be set before `scquery_ae.nn` imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = PROJECT["name"].replace("-", "_")
author = PROJECT["authors"][0]["name"]
project_copyright = author
release = version = PROJECT["version"]

#: Address of the repository, for links to files that are not pages. Without an address, the links become downloads.
repository_url = PROJECT.get("urls", {}).get("Repository", "").rstrip("/")

# myst_nb reads Markdown, as myst_parser does, and notebooks.
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Show notebooks with the outputs that are stored in them.
nb_execution_mode = "off"

# Links to the documentation of other packages need a network. Without one, intersphinx emits a warning without a type,
# which cannot be suppressed by itself. The links are therefore made on Read the Docs or on request only.
if os.environ.get("READTHEDOCS") == "True" or os.environ.get("SCQUERY_AE_DOCS_LINKS"):
    extensions.append("sphinx.ext.intersphinx")
intersphinx_timeout = 30
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "anndata": ("https://anndata.readthedocs.io/en/stable", None),
    "matplotlib": ("https://matplotlib.org/stable", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
    "scipy": ("https://docs.scipy.org/doc/scipy", None),
    "sklearn": ("https://scikit-learn.org/stable", None),
}
#: Names in signatures, and the names under which other packages document them.
ELSEWHERE = {
    "AnnData": "anndata.AnnData",
    "Axes": "matplotlib.axes.Axes",
    "Figure": "matplotlib.figure.Figure",
    "Path": "pathlib.Path",
    "PathLike": "os.PathLike",
    "numpy.random._generator.Generator": "numpy.random.Generator",
    "pandas.core.frame.DataFrame": "pandas.DataFrame",
    "pd.DataFrame": "pandas.DataFrame",
    "scipy.sparse._csr.csr_matrix": "scipy.sparse.csr_matrix",
}

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = False
# Keep a description that several parameters have in one place.
napoleon_use_param = False
napoleon_use_ivar = True
# "Returns" contains sentences and lists, which napoleon would otherwise parse as types.
napoleon_custom_sections = [("Returns", "as_written")]
# Remove pages of earlier builds. Pages of objects that no longer exist would cause warnings.
for made in (HERE / "api" / "generated", HERE / "results"):
    shutil.rmtree(made, ignore_errors=True)
for made in (HERE / "tutorials").glob("*.ipynb"):
    made.unlink()

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"
html_theme_options = {"navigation_with_keys": True}
copybutton_exclude = ".linenos, .gp, .go"

logger = logging.getLogger(__name__)


def result_page(result: Path) -> str:
    """Return a page with the tables of one file of results, below the docstring of the script that made it."""
    script = ROOT / "benchmarks" / f"{result.stem}.py"
    said = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) if script.is_file() else None) or ""
    # The docstring marks commands by indentation only.
    said = re.sub(r"\n\n(?=    \S)", "\n\n::\n\n", said)
    include = f"```{{include}} ../../benchmarks/results/{result.name}\n```"
    return f"# Results: {result.stem.replace('_', ' ')}\n\n```{{eval-rst}}\n{said}\n```\n\n{include}\n"


(HERE / "results").mkdir()
for result in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
    (HERE / "results" / result.name).write_text(result_page(result), encoding="utf-8")


def tutorial_page(notebook: Path) -> str:
    """Return a notebook with a download link, and with links for the names of pages and other notebooks."""
    kept = json.loads(notebook.read_text(encoding="utf-8"))
    texts = [cell for cell in kept["cells"] if cell["cell_type"] == "markdown"]
    for cell in texts:
        text = re.sub(r"`docs/(\w+\.md)`", r"[`docs/\1`](../\1)", "".join(cell["source"]))
        cell["source"] = re.sub(r"`tutorials/(\w+\.ipynb)`", r"[`tutorials/\1`](\1)", text)
    title, _, rest = texts[0]["source"].partition("\n")
    texts[0]["source"] = f"{title}\n\n{{download}}`This page as a notebook <../../tutorials/{notebook.name}>`\n{rest}"
    return json.dumps(kept, ensure_ascii=False)


for notebook in sorted((ROOT / "tutorials").glob("*.ipynb")):
    (HERE / "tutorials" / notebook.name).write_text(tutorial_page(notebook), encoding="utf-8")


def link_repository(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace a page's links to files of the repository by links that work on the site.

    Pages are also read in the repository, where ``../benchmarks/results/trust.md`` is a valid link. On the site, the
    link leads to the page that includes the file, if there is one, or else to the repository or to a download.
    """
    page = Path(app.env.doc2path(docname))
    own = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}

    def replace(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        file = (page.parent / target).resolve()
        if not file.is_relative_to(ROOT) or file.is_relative_to(HERE):
            return match[0]
        inside = file.relative_to(ROOT).as_posix()
        included = own.get(inside) or inside.replace("benchmarks/results/", "results/", 1)
        if included.endswith((".md", ".ipynb")) and (HERE / included).is_file():
            return f"[{text}]({os.path.relpath(HERE / included, page.parent)})"
        if not file.exists():
            logger.warning("the repository has no file %s", inside, location=docname)
        elif repository_url:
            return f"[{text}]({repository_url}/blob/main/{inside})"
        elif file.is_file():
            return f"{{download}}`{text} <{target}>`"
        return text

    source[0] = re.sub(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>(?:\.\./)+[^)#\s]+)\)", replace, source[0])


def name_elsewhere(_app: Sphinx, _env: Any, node: nodes.Element, _contnode: nodes.Element) -> None:
    """Replace the name of an object of another package by the name under which it is documented."""
    if node.get("refdomain") == "py":
        node["reftarget"] = ELSEWHERE.get(node.get("reftarget", ""), node.get("reftarget", ""))


def resolve_own(_: Sphinx, env: Any, node: nodes.Element, contnode: nodes.Element) -> nodes.Element | None:
    """Resolve a name by its defining module, although pages use the module that exports it."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("scquery_ae."):
        return None
    objects = env.get_domain("py").objects
    parts = target.split(".")
    # For example, `scquery_ae.index.base.Neighbors` is exported as `scquery_ae.index.Neighbors`.
    for start in range(1, len(parts)):
        exported = [
            name for name in objects if name.split(".")[-len(parts[start:]) :] == parts[start:] and _same(name, target)
        ]
        if exported:
            name = min(exported, key=len)
            entry = objects[name]
            return make_refnode(env.app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name)
    # A reference in a docstring must resolve. A type in a signature may be internal.
    if "refexplicit" in node:
        logger.warning("no page documents %s", target, location=node)
    return None


def _same(one: str, other: str) -> bool:
    first, second = _found(one), _found(other)
    return first is not None and first is second


def _found(name: str) -> Any:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module: Any = sys.modules.get(".".join(parts[:end]))
        if module is None:
            continue
        for part in parts[end:]:
            module = getattr(module, part, None)
        if module is not None:
            return module
    return None


def skip_inherited(_app: Sphinx, _what: str, _name: str, obj: Any, _skip: bool, _options: Any) -> bool | None:
    """Skip members that a class inherits from Keras. Keep members inherited from classes of this package."""
    function = getattr(obj, "fget", None) or getattr(obj, "func", None) or obj
    home = getattr(function, "__module__", None) or project
    return None if home.startswith(project) else True


def own_signature(
    _app: Sphinx, what: str, _name: str, obj: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Return the signature of a class if autodoc cannot determine it.

    The ``__new__`` of a Keras layer accepts any arguments and hides those of ``__init__``. A protocol has none. Sphinx
    shows default factories as ``<factory>``, which is not valid Python and breaks the links of types.
    """
    if what != "class" or not signature:
        return None
    if getattr(obj, "_is_protocol", False):
        return "", returns
    if signature.startswith("(*args"):
        arguments = inspect.signature(obj.__init__, bound_method=True)
        signature = inspect.stringify_signature(arguments, unqualified_typehints=True, show_return_annotation=False)
    return signature.replace("<factory>", "..."), returns


def math_inline(translator: Any, node: nodes.math) -> None:
    """Write a formula as MathML, which browsers display without a script or a network."""
    translator.body.append(_mathml(node))
    raise nodes.SkipNode


def math_block(translator: Any, node: nodes.math_block) -> None:
    """Write a displayed formula as MathML."""
    translator.body.append(f'<div class="formula">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def _mathml(node: nodes.Element, *, as_block: bool = False) -> str:
    try:
        return str(latex2mathml.tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        logger.warning("%s in the formula %s", error, node.astext(), location=node)
        return ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the handlers."""
    app.add_html_math_renderer("mathml", (math_inline, None), (math_block, None))
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("autodoc-process-signature", own_signature)
    app.connect("source-read", link_repository)
    app.connect("missing-reference", name_elsewhere, priority=400)  # before intersphinx looks
    app.connect("missing-reference", resolve_own)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
