"""Settings of the documentation: ``make docs``.

Sphinx rather than mkdocs-material: most of the site is the reference of a typed API, and autodoc
takes that from the objects themselves, whatever module defines them and wherever they inherit from:
``runtime.Task`` is documented as users see it, with what it has from the compiled core. The pages
are Markdown (MyST), so that they also read well where the repository is browsed.
"""

from __future__ import annotations

import asyncio
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

# What is in code marks in a docstring is a name of Python more often than not.
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


# Some classes have methods that are there for the layers above. What users call is what asyncio's
# class of the same name has, and these besides.
ADDITIONS = {
    "__call__",
    "abort",
    "abort_clients",
    "close_clients",
    "get_context",
    "run_until_idle",
    "set_write_buffer_limits",
    "shutdown",
    "slow_callback_duration",
    "watch_slow_callbacks",
}
ASYNCIO_NAMES = {
    name
    for each in (
        asyncio.BaseEventLoop,
        asyncio.Task,
        asyncio.TaskGroup,
        asyncio.TimerHandle,
        asyncio.Server,
        asyncio.StreamReader,
        asyncio.StreamWriter,
    )
    for name in dir(each)
}
WITH_INTERNALS = {
    "FutureCore",
    "Handle",
    "LoopCore",
    "Resume",
    "Runnable",
    "Scheduler",
    "Server",
    "StreamReader",
    "StreamWriter",
    "TaskCore",
    "TaskGroup",
    "TimerHandle",
}

# What these are made with is nobody's business but that of the functions that make them.
MADE_BY_FUNCTIONS = {
    "runtime.DatagramEndpoint",
    "runtime.Handle",
    "runtime.Process",
    "runtime.Resume",
    "runtime.Server",
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
    """Return a signature without what nobody can use, and without marks that Sphinx leaves in it.

    Where it cannot parse a signature, one with a ParamSpec for example, it shows all of it as text,
    with the ~ that has it leave out the module of a name.
    """
    if name in MADE_BY_FUNCTIONS:
        return "", None
    if signature is not None:
        signature = re.sub(r"~(?:\w+\.)*~?", "", signature).replace("[[P], ", "[P, ")
    return signature, returns


def skip_internals(
    _app: object, what: str, name: str, member: Any, skip: bool, _options: object
) -> bool:
    """Return whether a member of a class is to be left out."""
    if what != "class":
        return skip
    function = member.fget if isinstance(member, property) else member
    if str(getattr(function, "__module__", "")).startswith("asyncio"):
        return True  # an abstract method that is not there yet
    owner = str(getattr(function, "__qualname__", "")).partition(".")[0]
    if owner in WITH_INTERNALS and name not in ASYNCIO_NAMES | ADDITIONS:
        return True
    return skip


def module_with_source(_app: object, module: str, name: str) -> str | None:
    """Keep the source of asyncio's and Python's own classes out of the site; None: as usual."""
    named = getattr(sys.modules[module], name.partition(".")[0], None)
    ours = str(getattr(named, "__module__", "")).startswith("runtime")
    return None if ours else module


def setup(app: Any) -> None:
    """Tell Sphinx about the functions above, and that the diagrams of calls are plain text."""
    app.add_lexer("trace", TextLexer)
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("autodoc-skip-member", skip_internals)
    app.connect("viewcode-follow-imported", module_with_source)
