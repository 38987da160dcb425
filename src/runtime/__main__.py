"""``python -m runtime``: prints the build and its platform, simulates, or observes a process.

``python -m runtime simulate FILE::FUNCTION`` runs a coroutine function under many schedules.
``python -m runtime ps PID`` and the other commands: see ``runtime/observe/command_line.py``.
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


def main() -> int:
    """Run the command of the command line; return the exit status."""
    if len(sys.argv) == 1:
        print(describe_build())
        return 0
    # Imported here: the description of the build needs none of it.
    if sys.argv[1] == "simulate":
        from runtime.simulation.command_line import main as simulate

        return simulate(sys.argv[2:])
    from runtime.observe.command_line import main as observe

    return observe(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
