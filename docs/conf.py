"""Settings of the documentation: ``make docs``.

Sphinx rather than mkdocs-material: most of the site is the reference of a typed API, and autodoc
reads it from the objects themselves, including members that are inherited from other modules:
``runtime.Task`` is documented as users see it, with the methods of its compiled base class. The
pages are Markdown (MyST), so that they are also readable in the repository.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from pygments.lexers.special import TextLexer

import runtime

project = "runtime"
author = "The runtime developers"
project_copyright = "The runtime developers"
version = release = runtime.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

# Text in single backquotes in a docstring is usually the name of a Python object.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "inherited-members": True}
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

myst_heading_anchors = 3
myst_links_external_new_tab = False

html_theme = "furo"
html_title = f"runtime {version}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"


# Methods of ``runtime.Resume`` and ``runtime.Started`` that only the package calls.
INTERNAL = {
    "finishing_object",
    "give_up",
    "is_waited_for",
    "joins",
    "move_into",
    "note_end",
}

# Classes that only functions of the package create: the parameters of the constructors are hidden.
MADE_BY_FUNCTIONS = {
    "runtime.DatagramEndpoint",
    "runtime.Handle",
    "runtime.Process",
    "runtime.ReceiveChannel",
    "runtime.Resume",
    "runtime.SendChannel",
    "runtime.Server",
    "runtime.Started",
    "runtime.StreamReader",
    "runtime.StreamWriter",
    "runtime.TimerHandle",
}


def readable_signature(
    _app: object,
    _what: str,
    name: str,
    _object: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Return a signature without internal parameters, and without markup that Sphinx leaves in it.

    If Sphinx cannot parse a signature, for example one with a ParamSpec, it shows the text of the
    signature, including the ~ that makes it omit the module of a name.
    """
    if name in MADE_BY_FUNCTIONS:
        return "", None
    if signature is not None:
        signature = re.sub(r"~(?:\w+\.)*~?", "", signature).replace("[[P], ", "[P, ")
    return signature, returns


def skip_internals(
    _app: object, what: str, name: str, member: Any, skip: bool, _options: object
) -> bool:
    """Return whether a member of a class is left out of the reference."""
    if what != "class":
        return skip
    function = member.fget if isinstance(member, property) else member
    if str(getattr(function, "__module__", "")).startswith("asyncio"):
        return True  # an abstract method that is not implemented
    return skip or name in INTERNAL


def module_with_source(_app: object, module: str, name: str) -> str | None:
    """Keep the source of asyncio's and Python's own classes out of the site.

    None leaves the choice to Sphinx.
    """
    named = getattr(sys.modules[module], name.partition(".")[0], None)
    ours = str(getattr(named, "__module__", "")).startswith("runtime")
    return None if ours else module


def setup(app: Any) -> None:
    """Register the functions above, and a lexer that treats call diagrams as plain text."""
    app.add_lexer("trace", TextLexer)
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("autodoc-skip-member", skip_internals)
    app.connect("viewcode-follow-imported", module_with_source)
