"""The contenders: which package, which build of it, through which API."""

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
from bench.process import ROOT, Process, python_environment

SOURCE = ROOT / "src"
PURE = {"compiled": False, "accelerator": False}
ACCELERATOR = {"compiled": False, "accelerator": True}
COMPILED = {"compiled": True, "accelerator": True}


class ContenderError(RuntimeError):
    """A contender is not installed, or is not the build that its name says."""


@dataclass(frozen=True)
class Contender:
    """One of those that are compared."""

    name: str
    summary: str
    api: str = ""
    """For ``apis.load``; empty for the programs in C."""

    build: tuple[tuple[str, bool], ...] = ()
    """What ``apis.facts`` must say of the package."""

    by_default: bool = True

    @property
    def is_own(self) -> bool:
        """Whether it is this project's, so that it must not fail."""
        return self.api.startswith("runtime")


def _contender(
    name: str, summary: str, api: str, build: dict[str, bool], by_default: bool = True
) -> Contender:
    return Contender(name, summary, api, tuple(build.items()), by_default)


LIMIT = Contender("C", "a bare epoll server in C: the limit, where there is one")
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("asyncio", "the standard library, with its C accelerator", "asyncio"),
        Contender("uvloop", "asyncio's functions on uvloop's loop", "uvloop"),
        Contender("rloop", "asyncio's functions on rloop's loop", "rloop"),
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
            "runtime-pure-asyncio",
            "asyncio's functions on runtime's loop, interpreted",
            "runtime-asyncio",
            PURE,
        ),
        LIMIT,
    )
}


def _newest_accelerator_build() -> Path:
    """Return the folder of an interpreted build with the accelerator, made anew when outdated."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted([ROOT / "setup.py", *SOURCE.rglob("*.py"), *SOURCE.rglob("*.[ch]")]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    folder = native.CACHE / f"accelerator-{digest.hexdigest()[:12]}"
    if not folder.exists():
        for old in native.CACHE.glob("accelerator-*"):
            shutil.rmtree(old)
        # Under another name until it is whole.
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

    The pure build is the source folder, where no extension module ever lies; the compiled one is
    what is installed beside this interpreter, or what the folder ``compiled_in`` holds.
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
    """A contender that was found to be what it says, and how to start it."""

    contender: Contender
    version: str
    environment: dict[str, str]
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know of it."""

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    def start(self, kind: str, *arguments: str) -> Process:
        """Start bench/child.py for it, and hear out its greeting."""
        process = Process(
            self.name,
            [sys.executable, "-m", "bench.child", self.contender.api, kind, *arguments],
            self.environment,
        )
        try:
            process.hear()
        except BaseException:
            process.end()
            raise
        return process


def enter(contender: Contender, compiled_in: Path | None = None) -> Entry:
    """Check that a contender is there, and that it is the build that its name says.

    Raises ContenderError when it is not.
    """
    if contender is LIMIT:
        if reason := native.why_not():
            raise ContenderError(f"{contender.name}: {reason}.")
        return Entry(contender, "bare epoll", {})
    environment = environment_of(contender, compiled_in)
    command = [sys.executable, "-m", "bench.child", contender.api, "hello"]
    with Process(contender.name, command, environment) as process:
        found = process.hear()
    if "error" in found:
        raise ContenderError(f"{contender.name}: {found['error']}.")
    for fact, wanted in contender.build:
        if found[fact] != wanted:
            raise ContenderError(
                f"{contender.name} is {'' if found[fact] else 'not '}{_WORDS[fact]} "
                f"({found['folder']}): {_ADVICE if wanted else 'unset what makes it so'}."
            )
    return Entry(contender, _describe(found), environment, _outdated(found))


_WORDS = {"compiled": "compiled", "accelerator": "running with the C accelerator"}
_ADVICE = "install the package where it can be compiled (make build), or leave this contender out"


def _describe(found: dict[str, Any]) -> str:
    words = [str(found["version"])]
    if "compiled" in found:
        words.append("compiled" if found["compiled"] else "interpreted")
        words.append("C accelerator" if found["accelerator"] else "no accelerator")
    return ", ".join(words)


def _outdated(found: dict[str, Any]) -> tuple[str, ...]:
    """Return a note when a build was not made of the sources as they are now."""
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
