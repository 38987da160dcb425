"""The one mypyc annotation that the compiled modules need, without a dependency at run time.

Interpreted on purpose: the compiler resolves the name to ``mypy_extensions``, which is then never
imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr  # noqa: PLC0414  # a re-export
else:

    def mypyc_attr(**_attributes):
        """Leave the decorated class as it is: interpreted classes need no attributes."""
        return lambda cls: cls
