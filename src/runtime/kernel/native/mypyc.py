"""The mypyc annotations that the compiled modules need, without a dependency at run time.

Interpreted on purpose: the compiler resolves the names to ``mypy_extensions``, which is then
never imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # ruff: noqa: PLC0414  # re-exports
    from mypy_extensions import mypyc_attr as mypyc_attr
    from mypy_extensions import trait as trait
else:

    def mypyc_attr(**_attributes):
        """Leave the decorated class as it is: interpreted classes need no attributes."""
        return lambda cls: cls

    def trait(cls):
        """Leave the decorated class as it is: interpreted, any class can be a second base."""
        return cls
