"""``python -m runtime``: which build this is, and what it stands on. For reports of bugs."""

from __future__ import annotations

import platform
import selectors

import runtime
from runtime.kernel.native import accelerator


def describe_build() -> str:
    """Return one line: version, compiled or not, accelerator or fallback, Python, selector."""
    return ", ".join(
        (
            f"runtime {runtime.__version__}",
            "compiled" if runtime.compiled else "interpreted",
            "C accelerator" if accelerator.has_accelerator else "no C accelerator",
            f"{platform.python_implementation()} {platform.python_version()}",
            f"{platform.system()} {platform.machine()}",
            selectors.DefaultSelector.__name__,
        )
    )


if __name__ == "__main__":
    print(describe_build())
