"""The documentation, by Sphinx: sphinx-build -W docs build/docs. Its pages are Markdown."""

import os
import sys
from pathlib import Path

# The interpreted twin shows signatures as they are written.
os.environ["URINGLOOP_PURE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uringloop

project = "uringloop"
author = "the uringloop developers"
version = release = uringloop.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"uringloop {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Docstrings are man pages in plain text: columns of arguments, units, errors, kernel.
autodoc_preserve_defaults = True


def as_plain_text(app, what, name, obj, options, lines):
    """The columns as they stand: they are no reStructuredText."""
    first = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    columns = [f"   {line}".rstrip() for line in lines[first:]]
    if any(columns):
        lines[first:] = ["", ".. code-block:: none", "", *columns, ""]


def setup(app):
    app.connect("autodoc-process-docstring", as_plain_text)
