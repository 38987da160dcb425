"""``python -m runtime``: prints the build and its platform, for bug reports.

``python -m runtime simulate FILE::FUNCTION`` runs a coroutine function under many schedules.
"""

from __future__ import annotations

import platform
import selectors
import sys

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


def _simulate(arguments: list[str]) -> int:
    # Not needed to describe the build.
    from runtime.simulation.command_line import main

    return main(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["simulate"]:
        sys.exit(_simulate(sys.argv[2:]))
    print(describe_build())
