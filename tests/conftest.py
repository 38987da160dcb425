"""What every test gets: a header that names the build, and a guard against leaks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import build, limits
from tests.support.certificates import certificates
from tests.support.leaks import finalizers_run, no_collector, no_leaks, pytest_sessionfinish
from tests.support.limits import pytest_configure

__all__ = [
    "certificates",
    "finalizers_run",
    "no_collector",
    "no_leaks",
    "pytest_configure",
    "pytest_sessionfinish",
]

_REFERENCE = {"asyncio", "new_asyncio_loop"}
"""Parts of the ids of tests that run on asyncio itself."""

ECOSYSTEM = Path(__file__).parent / "ecosystem"


def pytest_report_header() -> str:
    """Head the report with the build that is being tested."""
    return build.header()


def pytest_sessionstart() -> None:
    """Refuse to test another build than the one that was meant; have signals as in a terminal."""
    if wrong := build.wrong_build():
        raise pytest.UsageError(wrong)
    # A shell starts what is to run in the background with the first two ignored, nohup with the
    # last, and children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the tests of the ecosystem out where they are not asked for by their place."""
    if collection_path != ECOSYSTEM:
        return None
    asked = (config.invocation_params.dir / each.partition("::")[0] for each in config.args)
    return None if any(ECOSYSTEM in (path, *path.parents) for path in asked) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set limits; mark the tests that run on asyncio itself, which are the same on any build."""
    limits.pytest_collection_modifyitems(items)
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and _REFERENCE & set(callspec.id.split("-")):
            item.add_marker("reference")
