"""Contents of an installation: names, version, types, compiled modules, no dependencies."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

import runtime
from runtime.__main__ import describe_build
from tests.support import build
from tests.support.programs import ROOT, run_code, run_program

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def setup_constant(name: str) -> object:
    """Return a constant of setup.py without running it."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py has no {name}")


def compiled_modules() -> list[str]:
    paths = setup_constant("COMPILED")
    assert isinstance(paths, tuple)
    return [".".join(Path(path).relative_to("src").with_suffix("").parts) for path in paths]


def test_version_has_the_form_of_a_release_and_is_the_changelogs_newest() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", runtime.__version__)
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == runtime.__version__


def test_marked_as_typed() -> None:
    assert (build.FOLDER / "py.typed").is_file()


def test_no_dependencies() -> None:
    assert PYPROJECT["project"]["dependencies"] == []


def test_public_names_are_unique_and_there() -> None:
    assert len(runtime.__all__) == len(set(runtime.__all__))
    for name in runtime.__all__:
        assert getattr(runtime, name) is not None


def test_every_name_without_an_underscore_is_public() -> None:
    modules = {name.partition(".")[0] for name in sys.modules} | {"__main__"}
    submodules = {path.stem for path in build.FOLDER.iterdir()}
    # If the package is installed, pytest adds two names with an "@" to the modules of its plugins.
    names = {name for name in dir(runtime) if not name.startswith(("_", "@"))}
    names -= {"annotations", "TYPE_CHECKING"} | modules | submodules
    assert names == set(runtime.__all__) - {"__version__"}


def test_the_network_and_processes_are_imported_when_they_are_first_used() -> None:
    program = """
import sys, runtime

def has(module):
    return "runtime." + module in sys.modules

async def main():
    await runtime.sleep(0)

runtime.run(main())
print(*map(has, ["net.setup.protocol_api", "net.connection.tls", "net.connection.streams"]))
print(*map(has, ["subprocess", "system.pipes"]))
assert {"open_connection", "Process"} <= set(dir(runtime)) - set(vars(runtime))
from runtime import open_connection
print(*map(has, ["net.connection.tls", "net.connection.streams", "subprocess"]))
assert vars(runtime)["open_connection"] is runtime.open_connection is open_connection
runtime.Process
print(has("subprocess"))
"""
    done = run_code(program)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "False False False",
        "False False",
        "True True False",
        "True",
    ]


def test_an_empty_program_imports_little_more_than_asyncio() -> None:
    program = """
import sys, asyncio

before = set(sys.modules)
import runtime

async def main():
    pass

runtime.run(main())
print(*(set(sys.modules) - before))
"""
    done = run_code(program)
    imported = {name for name in done.stdout.split() if name.partition(".")[0] != "runtime"}
    # asyncio itself imports typing up to 3.13, and struct up to 3.14. The fallback of the
    # accelerator needs struct.
    by_asyncio = {"_struct", "struct", "_typing", "typing"}
    assert imported <= {"__future__", "_bisect", "bisect", "gc", *by_asyncio}
    unneeded = (
        "runtime.kernel.api.awaitables",
        "runtime.kernel.api.call_graph",
        "runtime.kernel.api.eager_tasks",
        "runtime.kernel.compat.external_tools",
        "runtime.kernel.diagnostics.awaited_by",
        "runtime.kernel.diagnostics.deadlock",
        "runtime.kernel.diagnostics.metrics",
        "runtime.kernel.diagnostics.recorder",
        "runtime.kernel.diagnostics.stacks",
        "runtime.kernel.diagnostics.watch_errors",
        "runtime.kernel.lifetime.idle",
        "runtime.kernel.native.buckets",
        "runtime.kernel.suspensions",
        "runtime.kernel.threads.limiters",
        "runtime.kernel.threads.observers",
        "runtime.kernel.threads.unknown_threads",
        "runtime.net.connection.",
        "runtime.net.resolver",
        "runtime.net.sockets",
        "runtime.observe",
        "runtime.simulation",
        "runtime.sync.",
        "runtime.system.signals",
        "runtime.system.threads",
        "runtime.testing",
    )
    ours = [name for name in done.stdout.split() if name.partition(".")[0] == "runtime"]
    assert [name for name in ours if name.startswith(unneeded)] == []
    assert len(ours) <= 64


def test_submodules_with_asyncio_s_names_are_attributes() -> None:
    done = run_code(
        "import runtime; print(runtime.subprocess.PIPE, runtime.policy.install is runtime.install)"
    )
    assert (done.stdout, done.stderr) == ("-1 True\n", "")


def test_patches_of_a_test_are_not_kept() -> None:
    program = """
from unittest import mock
import runtime
with mock.patch("runtime.net.setup.stream_api.open_connection") as patched:
    assert runtime.open_connection is patched
print(runtime.open_connection.__name__)
with mock.patch("runtime.start_server") as patched:
    assert runtime.start_server is patched
print(runtime.start_server.__name__)
"""
    done = run_code(program)
    assert (done.stdout, done.stderr) == ("open_connection\nstart_server\n", "")


def test_a_star_import_has_every_name() -> None:
    done = run_code(
        "from runtime import *; import runtime; print(set(runtime.__all__) - set(globals()))"
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'runtime' has no attribute 'opn_connection'"):
        getattr(runtime, "opn_connection")  # noqa: B009  # a type checker would object to the other


def test_compiled_says_how_the_kernel_was_loaded() -> None:
    assert runtime.compiled is build.is_compiled()


def test_modules_are_compiled_all_or_none() -> None:
    suffixes = {
        name: Path(importlib.import_module(name).__file__ or "").suffix
        for name in compiled_modules()
    }
    expected = ".so" if build.is_compiled() else ".py"
    assert suffixes == dict.fromkeys(suffixes, expected)


def test_every_module_has_the_loader_of_its_spec() -> None:
    """Python 3.15 warns of another loader in every traceback that passes through the module."""
    for name in compiled_modules():
        module = importlib.import_module(name)
        assert module.__spec__ is not None
        assert module.__loader__ is module.__spec__.loader


def test_no_other_module_is_compiled() -> None:
    libraries = {path.name.partition(".")[0] for path in build.FOLDER.rglob("*.so")} - {
        "_accelerator"
    }
    modules = {name.rpartition(".")[2] for name in compiled_modules()}
    assert libraries == ({*modules, "_compiled__mypyc"} if build.is_compiled() else set())


def test_the_build_and_the_linter_use_the_same_mypy() -> None:
    assert setup_constant("MYPY") in PYPROJECT["project"]["optional-dependencies"]["dev"]


def test_imports_only_the_standard_library() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(build.FOLDER.parent)!r})
before = set(sys.modules)
import runtime
print(*{{name.partition('.')[0] for name in set(sys.modules) - before}})
"""
    done = run_program("-I", "-S", "-c", program)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert imported - sys.stdlib_module_names - {"_sysconfigdata", "_missing_stdlib_info"} == {
        "runtime"
    }


def test_import_runs_nothing_and_prints_nothing() -> None:
    done = run_code(
        "import threading, runtime; print(threading.active_count(), len(runtime.__all__) > 0)"
    )
    assert (done.stdout, done.stderr) == ("1 True\n", "")


def test_python_m_runtime_describes_the_build() -> None:
    done = run_program("-m", "runtime")
    assert done.stdout == describe_build() + "\n"
    assert runtime.__version__ in done.stdout
    assert ("interpreted" in done.stdout) is not build.is_compiled()


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_project_files_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 500
