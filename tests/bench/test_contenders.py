from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench import contenders
from bench.contenders import (
    CONTENDERS,
    LIMIT,
    LOOPS,
    SOURCE,
    Contender,
    ContenderError,
    enter,
    environment_of,
)
from bench.process import ROOT, Process, ProcessError, UnsupportedError, python_environment

pytestmark = pytest.mark.once


def test_the_pure_build_is_the_source_folder_without_the_accelerator() -> None:
    environment = environment_of(CONTENDERS["runtime-pure"])
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(SOURCE)
    assert environment["RUNTIME_NO_ACCELERATOR"] == "1"
    entry = enter(CONTENDERS["runtime-pure"])
    assert "interpreted, no accelerator" in entry.version
    assert entry.notes == ()


def test_the_compiled_build_is_the_installed_one_or_that_of_a_folder(tmp_path: Path) -> None:
    compiled = CONTENDERS["runtime-compiled"]
    assert str(SOURCE) not in environment_of(compiled)["PYTHONPATH"].split(os.pathsep)
    first, *_ = environment_of(compiled, tmp_path)["PYTHONPATH"].split(os.pathsep)
    assert first == str(tmp_path.resolve())


def test_a_build_that_contradicts_its_name_is_refused() -> None:
    with pytest.raises(ContenderError, match="runtime-compiled is not compiled"):
        enter(CONTENDERS["runtime-compiled"], compiled_in=SOURCE)


def test_a_package_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(ContenderError, match="No module named 'nowhere'"):
        enter(Contender("nowhere", "made up", "nowhere"))


def test_the_environment_of_the_caller_does_not_reach_the_contender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("RUNTIME_NO_ACCELERATOR", "1")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = python_environment()
    assert "PYTHONASYNCIODEBUG" not in environment
    assert "RUNTIME_NO_ACCELERATOR" not in environment
    assert environment["PYTHONPATH"] == str(ROOT)


def test_the_limit_needs_no_python() -> None:
    assert LIMIT.api == ""
    assert LIMIT.build == ()


def test_a_missing_feature_is_distinguished_from_a_failure() -> None:
    lacking = """import json; print(json.dumps({"unsupported": "TLS"}))"""
    with (
        Process("the lacking one", [sys.executable, "-c", lacking]) as process,
        pytest.raises(UnsupportedError, match="TLS"),
    ):
        process.hear()


def test_a_process_that_ends_too_early_is_an_error() -> None:
    with (
        Process("the short one", ["/bin/sh", "-c", "exit 3"]) as short,
        pytest.raises(ProcessError, match="the short one ended too early, with status 3"),
    ):
        short.hear()


def test_the_signal_that_ended_a_process_is_named() -> None:
    with (
        Process("the killed one", ["/bin/sh", "-c", "kill -SEGV $$"]) as killed,
        pytest.raises(ProcessError, match="the killed one ended too early, with SIGSEGV"),
    ):
        killed.hear()


def test_the_last_line_of_the_errors_of_a_quiet_process_is_the_reason(
    capfd: pytest.CaptureFixture[str],
) -> None:
    command = ["/bin/sh", "-c", "echo first >&2; echo the last line >&2; exit 3"]
    with (
        Process("the quiet one", command, is_quiet=True) as quiet,
        pytest.raises(ProcessError, match=r"with status 3\. the last line$"),
    ):
        quiet.hear()
    assert capfd.readouterr().err == ""


def test_output_that_is_no_message_is_an_error() -> None:
    with (
        Process("the chatty one", ["/bin/sh", "-c", "echo welcome"]) as chatty,
        pytest.raises(ProcessError, match="the chatty one printed 'welcome'"),
    ):
        chatty.hear()


def made_up_peer(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> Contender:
    """Return a contender whose package is a module with this source."""
    (folder / "made_up_peer.py").write_text(source)
    monkeypatch.setattr(
        contenders, "environment_of", lambda contender, compiled_in: python_environment(folder)
    )
    return Contender("peer", "made up", "made_up_peer")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os\nos.abort()", "peer ended too early, with SIGABRT"),
        ("raise RuntimeError('the kernel is too old')", "RuntimeError: the kernel is too old"),
        ("import nowhere", "peer: No module named 'nowhere'"),
        ("print('welcome')", "peer printed 'welcome'"),
    ],
)
def test_a_peer_that_cannot_be_imported_is_left_out_with_the_reason(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = made_up_peer(tmp_path, source, monkeypatch)
    with pytest.raises(ContenderError, match=reason):
        enter(peer)


def test_the_exception_of_a_case_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
__version__ = "1.2"
def new_event_loop():
    raise OSError("no ring")
"""
    entry = enter(made_up_peer(tmp_path, source, monkeypatch))
    assert entry.version == "1.2"
    with (
        entry.start("case", "switch") as process,
        pytest.raises(ProcessError, match="peer failed with OSError: no ring"),
    ):
        process.ask("1000")


def test_a_package_without_a_version_has_that_of_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "made_up_peer-3.4.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: made_up_peer\nVersion: 3.4\n"
    )
    assert enter(made_up_peer(tmp_path, "", monkeypatch)).version == "3.4"


def test_every_loop_is_a_contender_by_default() -> None:
    assert all(CONTENDERS[name].by_default and CONTENDERS[name].api == name for name in LOOPS)
