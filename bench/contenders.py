"""Contenders: the package, its build, and the API through which it is used."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import native
from bench.process import ROOT, Process, ProcessError, python_environment

SOURCE = ROOT / "src"
PURE = {"compiled": False, "accelerator": False}
ACCELERATOR = {"compiled": False, "accelerator": True}
COMPILED = {"compiled": True, "accelerator": True}


class ContenderError(RuntimeError):
    """A contender is not installed, or is not the build that its name states."""


class NotInstalledError(ContenderError):
    """The package of a contender cannot be imported."""


@dataclass(frozen=True)
class Contender:
    """A runtime or a build of it that takes part in the comparison."""

    name: str
    summary: str
    api: str = ""
    """Name for ``apis.load``; empty for the programs in C."""

    build: tuple[tuple[str, bool], ...] = ()
    """Facts that ``apis.facts`` must report about the package."""

    by_default: bool = True

    @property
    def is_own(self) -> bool:
        """Whether the contender belongs to this project; a failure of it ends the run."""
        return self.api.startswith("runtime")


def _contender(
    name: str, summary: str, api: str, build: dict[str, bool], by_default: bool = True
) -> Contender:
    return Contender(name, summary, api, tuple(build.items()), by_default)


LOOPS = ("uvloop", "rloop", "zuvloop", "zloop", "rsloop", "blazio", "loopmini", "veloxloop")
"""Packages with an event loop for asyncio's functions, which ``new_event_loop`` makes.

All of them are compiled, and most have wheels for some versions of Python only: see ``peers.py``.
"""

LIMIT = Contender("C", "a bare epoll server in C: the limit, where there is one")
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("asyncio", "the standard library, with its C accelerator", "asyncio"),
        *(Contender(name, f"asyncio's functions on {name}'s loop", name) for name in LOOPS),
        Contender("trio", "trio, through its own functions", "trio"),
        Contender("curio", "curio, through its own functions", "curio"),
        _contender("runtime-pure", "src/runtime, interpreted, no C accelerator", "runtime", PURE),
        _contender(
            "runtime-accelerator",
            "interpreted, with the C accelerator",
            "runtime",
            ACCELERATOR,
            False,
        ),
        _contender("runtime-compiled", "as installed, compiled", "runtime", COMPILED),
        _contender(
            "runtime-asyncio",
            "asyncio's functions on runtime's loop, compiled",
            "runtime-asyncio",
            COMPILED,
        ),
        _contender(
            "runtime-joined",
            "the same, with Loop.join_all_writes()",
            "runtime-joined",
            COMPILED,
            False,
        ),
        _contender(
            "runtime-pure-asyncio",
            "asyncio's functions on runtime's loop, interpreted",
            "runtime-asyncio",
            PURE,
        ),
        LIMIT,
    )
}


def _newest_accelerator_build() -> Path:
    """Return the folder of an interpreted build with the accelerator, rebuilt when outdated."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted([ROOT / "setup.py", *SOURCE.rglob("*.py"), *SOURCE.rglob("*.[ch]")]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    folder = native.CACHE / f"accelerator-{digest.hexdigest()[:12]}"
    if not folder.exists():
        for old in native.CACHE.glob("accelerator-*"):
            shutil.rmtree(old)
        # The build gets its final name only once it is complete.
        unfinished = native.CACHE / f"accelerator-unfinished-{os.getpid()}"
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(unfinished)]
        built = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, str(ROOT)],
            env={**os.environ, "RUNTIME_ACCELERATOR_ONLY": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            raise ContenderError(f"runtime-accelerator cannot be built:\n{built.stderr}")
        unfinished.rename(folder)
    return folder


def environment_of(contender: Contender, compiled_in: Path | None = None) -> dict[str, str]:
    """Return the environment of a contender's process.

    The pure build is imported from the source folder, which never contains an extension module. The
    compiled build is the package installed beside this interpreter, or the one in the folder
    ``compiled_in``.
    """
    build = dict(contender.build)
    if build == PURE:
        return python_environment(SOURCE, RUNTIME_NO_ACCELERATOR="1")
    if build == ACCELERATOR:
        return python_environment(_newest_accelerator_build())
    if build == COMPILED and compiled_in is not None:
        return python_environment(compiled_in.resolve())
    return python_environment()


@dataclass(frozen=True)
class Entry:
    """A contender that passed its check, and the means to start it."""

    contender: Contender
    version: str
    environment: dict[str, str]
    notes: tuple[str, ...] = ()
    """Remarks for readers of the figures."""

    @property
    def name(self) -> str:
        """Name of the contender."""
        return self.contender.name

    def start(self, kind: str, *arguments: str) -> Process:
        """Start bench/child.py for this contender, and read its greeting."""
        process = Process(
            self.name,
            [sys.executable, "-m", "bench.child", self.contender.api, kind, *arguments],
            self.environment,
            is_quiet=not self.contender.is_own,
        )
        try:
            process.hear()
        except BaseException:
            process.end()
            raise
        return process


def enter(contender: Contender, compiled_in: Path | None = None) -> Entry:
    """Check that a contender is available and is the build that its name states.

    Raises ContenderError if it is not, or if it is a peer that crashes when it is imported.
    """
    if contender is LIMIT:
        if reason := native.why_not():
            raise ContenderError(f"{contender.name}: {reason}.")
        return Entry(contender, "bare epoll", {})
    environment = environment_of(contender, compiled_in)
    command = [sys.executable, "-m", "bench.child", contender.api, "hello"]
    try:
        with Process(
            contender.name, command, environment, is_quiet=not contender.is_own
        ) as process:
            found = process.hear()
    except ProcessError as error:
        if contender.is_own:
            raise
        raise ContenderError(str(error)) from None
    if "error" in found:
        raise NotInstalledError(f"{contender.name}: {found['error']}.")
    for fact, wanted in contender.build:
        if found[fact] != wanted:
            raise ContenderError(
                f"{contender.name} is {'' if found[fact] else 'not '}{_WORDS[fact]} "
                f"({found['folder']}): {_ADVICE if wanted else _OPPOSITE_ADVICE}."
            )
    return Entry(contender, _describe(found), environment, _outdated(found))


_WORDS = {"compiled": "compiled", "accelerator": "running with the C accelerator"}
_ADVICE = "install the package where it can be compiled (make build), or leave this contender out"
_OPPOSITE_ADVICE = "remove the extension modules or the environment variables that cause this"


def _describe(found: dict[str, Any]) -> str:
    words = [str(found["version"])]
    if "compiled" in found:
        words.append("compiled" if found["compiled"] else "interpreted")
        words.append("C accelerator" if found["accelerator"] else "no accelerator")
    return ", ".join(words)


def _outdated(found: dict[str, Any]) -> tuple[str, ...]:
    """Return a note if a build was made from sources that have changed since."""
    if "folder" not in found:
        return ()
    built, source = Path(found["folder"]), SOURCE / "runtime"
    files = [path.relative_to(source) for path in source.rglob("*.py")]
    changed = [
        name
        for name in files
        if not (built / name).is_file() or not filecmp.cmp(built / name, source / name, False)
    ]
    if not changed:
        return ()
    return (f"built from other sources than src/ holds now: {len(changed)} files differ",)
