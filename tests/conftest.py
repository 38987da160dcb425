"""Fixtures and hooks for every test: a header that names the build, and a check for leaks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import build, limits
from tests.support.certificates import certificates
from tests.support.leaks import finalizers_run, no_collector, no_leaks, pytest_sessionfinish

__all__ = [
    "certificates",
    "finalizers_run",
    "no_collector",
    "no_leaks",
    "pytest_sessionfinish",
]

pytest_plugins = ["runtime.testing.pytest_plugin", "runtime.simulation.pytest_plugin"]
"""The plugins that run the asynchronous tests, and check that they leave nothing behind."""

_REFERENCE = {"asyncio", "new_asyncio_loop"}
"""Parts of the ids of tests that run on asyncio itself."""

ECOSYSTEM = Path(__file__).parent / "ecosystem"


def pytest_report_header() -> str:
    """Return the report header, which names the build under test."""
    return build.header()


def pytest_configure(config: pytest.Config) -> None:
    """Have the plugin run all asynchronous tests; extend the report of pytest-timeout."""
    config.option.runtime = True
    limits.pytest_configure(config)


def pytest_sessionstart() -> None:
    """Refuse to test another build than the intended one; reset ignored signals."""
    if wrong := build.wrong_build():
        raise pytest.UsageError(wrong)
    # A shell starts background jobs with SIGINT and SIGQUIT ignored, and nohup ignores SIGHUP;
    # child processes inherit ignored signals.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the tests of the ecosystem unless their folder was named on the command line."""
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
