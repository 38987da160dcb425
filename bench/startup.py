"""Process that starts and ends: ``python startup.py import|run API``.

``import`` prints the seconds that the import took; ``run`` runs a coroutine that does nothing. This
file belongs to no package and imports nothing else, so that nothing else is measured.
"""

import importlib
import sys
import time


def import_api(name: str) -> None:
    """Import the modules that a program needs for this API."""
    started = time.perf_counter()
    if name not in {"runtime", "trio", "curio"}:
        import asyncio  # noqa: F401
    importlib.import_module(name.partition("-")[0])
    print(time.perf_counter() - started)


def run_api(name: str) -> None:
    """Run a coroutine on a loop of this API."""

    async def main() -> None:
        pass

    package = importlib.import_module(name.partition("-")[0])
    if name == "trio":
        package.run(main)
    elif name in {"asyncio", "runtime", "curio"}:
        package.run(main())
    else:
        import asyncio

        with asyncio.Runner(loop_factory=package.new_event_loop) as runner:
            runner.run(main())


if __name__ == "__main__":
    (import_api if sys.argv[1] == "import" else run_api)(sys.argv[2])
