"""``python -m runtime``: prints the build and its platform, for bug reports."""

from __future__ import annotations

import platform
import selectors

import runtime
from runtime.kernel.native import accelerator


def describe_build() -> str:
    """Return one line: version, compiled or not, accelerator or not, Python, system, selector."""
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
