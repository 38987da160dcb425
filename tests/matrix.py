"""Test suite, run once for each build of the package: ``make test``.

::

    pass                    modules    accelerator   all tests but those that are marked
    ----------------------- ---------- ------------- ----------------------------------------
    interpreted             src        fallback      slow
    compiled                installed  C             build, once, reference
    sanitized-accelerator   variant    C, sanitized  build, once, reference, slow, variation; of
                                                     the layers that use the accelerator
    compiled-dev            installed  C             the same, of the layers that have a debug mode;
                                                     under python -X dev
    interpreted-accelerator variant    C             the same, only if nothing can be sanitized
    compiled-fallback       installed  fallback      the same; of the layers that use the fallback

"Installed" is the package that pip installed beside the running interpreter; a "variant" is built
by this program into ``build/variants``. "Sanitized" means AddressSanitizer and UBSan;
``tests.sanitize`` also sanitizes the compiled modules. Without a C compiler, the passes that need
one are left out, and the report says so.

Tests whose result is the same on every build run in the first pass: tests of the build
(``build``), of the tests, the benchmarks and the sources (``once``), and tests that run a
scenario on asyncio itself (``reference``). The slow tests run in the second pass, on the build
that users have; without a compiler, they run in the first. The shorter passes leave out
variations of the same test, and hypothesis tries fewer examples in them. The layers above the
kernel, the network and the processes do not see whether a function is written in C or is its
fallback, and some have no debug mode: three passes leave the folders of their tests out.

About a third of a pass is waiting, so on two cores or more three passes run side by side. The
longest passes start first. The report at the end lists the slowest tests of all passes. Arguments
after ``--`` are passed to pytest::

    python -m tests.matrix --only compiled -- -k streams -x
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.durations import OPTIONS, Duration, durations_of, longest
from tests.support.examples import SHORT_PASS

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ROOT / "build" / "variants"
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
FIRST = ("-m", "not slow or once") if shutil.which(COMPILER) else ()
FULL = ("-m", "not build and not once and not reference")
SHORT = ("-m", "not build and not once and not reference and not slow and not variation")
ABOVE_ACCELERATOR = (
    "arguments",
    "dropin",
    "examples",
    "observe",
    "simulation",
    "sync",
    "testing",
)
ABOVE_DEBUG_MODE = ("arguments", "examples", "peers", "simulation")
ABOVE_FALLBACK = (*ABOVE_ACCELERATOR, "peers")


def without(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Return the arguments of a shorter pass that leaves some folders of ``tests`` out."""
    return (*SHORT, *(f"--ignore=tests/{folder}" for folder in folders))


@dataclass(frozen=True)
class Pass:
    """A run of the suite on one build."""

    name: str
    compiled: bool
    accelerator: str
    """0 for the fallback, 1 for the C accelerator, ``address`` for a sanitized one."""

    arguments: tuple[str, ...] = ()
    python_flags: tuple[str, ...] = ()
    build: Mapping[str, str] = field(default_factory=dict)
    """The environment that builds the variant under test; empty if there is no variant to build."""

    @property
    def needs_compiler(self) -> bool:
        """Whether the pass needs a C compiler."""
        return self.compiled or self.accelerator != "0"


LONGEST_PASS = 2400.0
"""Seconds after which a pass is ended: a run that hangs is a failure."""

PASSES = (
    Pass("interpreted", compiled=False, accelerator="0", arguments=FIRST),
    Pass("compiled", compiled=True, accelerator="1", arguments=FULL),
    Pass(
        "sanitized-accelerator",
        compiled=False,
        accelerator="address",
        arguments=without(ABOVE_ACCELERATOR),
        build={"RUNTIME_ACCELERATOR_ONLY": "1", "RUNTIME_SANITIZE": "address,undefined"},
    ),
    Pass(
        "compiled-dev",
        compiled=True,
        accelerator="1",
        arguments=without(ABOVE_DEBUG_MODE),
        python_flags=("-X", "dev"),
    ),
    Pass(
        "interpreted-accelerator",
        compiled=False,
        accelerator="1",
        arguments=SHORT,
        build={"RUNTIME_ACCELERATOR_ONLY": "1"},
    ),
    Pass(
        "compiled-fallback",
        compiled=True,
        accelerator="0",
        arguments=without(ABOVE_FALLBACK),
    ),
)


def sanitizer_library() -> str | None:
    """Return the library to preload for AddressSanitizer, or None if the compiler has none."""
    if not sys.platform.startswith("linux") or shutil.which(COMPILER) is None:
        return None
    command = [COMPILER, "-print-file-name=libasan.so"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    path = Path(answer).resolve()
    return str(path) if path.is_absolute() and ".so" in path.name and path.is_file() else None


def source_digest() -> str:
    """Return a digest of all inputs of a build."""
    digest = hashlib.sha256(sys.version.encode())
    files = [ROOT / "setup.py", ROOT / "pyproject.toml"]
    files += (path for path in (ROOT / "src").rglob("*") if path.suffix in {".py", ".c", ".h"})
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def built_variant(one: Pass) -> Path:
    """Build the variant of a pass, unless it is up to date; return its folder."""
    folder = VARIANTS / one.name
    stamp = VARIANTS / f"{one.name}.sha256"
    digest = source_digest()
    if folder.is_dir() and stamp.is_file() and stamp.read_text() == digest:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    VARIANTS.mkdir(parents=True, exist_ok=True)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder))
    command = [sys.executable, "-m", "pip", "install", *options, str(ROOT)]
    subprocess.run(command, env={**os.environ, **one.build}, check=True)
    stamp.write_text(digest)
    return folder


def environment_of(one: Pass) -> dict[str, str]:
    """Return the environment of the tests of a pass; build the variant if there is one."""
    environment = dict(os.environ)
    for variable in ("PYTHONPATH", "RUNTIME_NO_ACCELERATOR", SHORT_PASS):
        environment.pop(variable, None)
    if one.arguments[:2] == SHORT:
        environment[SHORT_PASS] = "1"
    environment["RUNTIME_EXPECT_COMPILED"] = str(int(one.compiled))
    environment["RUNTIME_EXPECT_ACCELERATOR"] = one.accelerator
    if one.accelerator == "0":
        environment["RUNTIME_NO_ACCELERATOR"] = "1"
    if one.build:
        environment["PYTHONPATH"] = str(built_variant(one))
    elif not one.compiled:
        environment["PYTHONPATH"] = str(ROOT / "src")
    if one.accelerator == "address":
        environment["LD_PRELOAD"] = sanitizer_library() or ""
        # At exit, the interpreter leaves memory to the system, which is not a leak of the
        # accelerator. Its own allocator would hide the ends of objects from the sanitizer.
        environment["ASAN_OPTIONS"] = "detect_leaks=0"
        environment["PYTHONMALLOC"] = "malloc"
    return environment


def reason_to_skip(one: Pass) -> str:
    """Return the reason why a pass cannot be run on this machine, or an empty string."""
    if one.needs_compiler and shutil.which(COMPILER) is None:
        return f"there is no C compiler ({COMPILER})"
    if one.accelerator == "address" and sanitizer_library() is None:
        return "the C compiler has no AddressSanitizer"
    return ""


def usual_passes() -> list[Pass]:
    """Return the passes that ``make test`` runs on this machine, or reports as left out.

    A build that is tested with sanitizers is not tested again without them.
    """
    by_name = {one.name: one for one in PASSES}
    if not reason_to_skip(by_name["sanitized-accelerator"]):
        del by_name["interpreted-accelerator"]
    return list(by_name.values())


@dataclass
class Result:
    """Outcome of a pass."""

    name: str
    status: int
    summary: str
    """The last line of pytest's output."""

    seconds: float = 0.0
    slowest: tuple[Duration, ...] = ()
    """The slowest tests of the pass."""


def run(
    one: Pass, arguments: list[str], python: str = sys.executable, *, at_once: bool = True
) -> Result:
    """Run a pass with the interpreter ``python``.

    The output is shown as it comes, or, unless ``at_once``, when the pass has ended.
    """
    if reason := reason_to_skip(one):
        return Result(one.name, 0, f"left out: {reason}")
    started = time.monotonic()
    environment = environment_of(one)
    command = [python, *one.python_flags, "-m", "pytest", *OPTIONS, *one.arguments, *arguments]
    heading = f"\n=== {one.name}: {shlex.join(command[1:])}"
    if at_once:
        print(heading, flush=True)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        watch = threading.Timer(LONGEST_PASS, end, [process])
        watch.start()
        try:
            if at_once:
                lines = list(shown(process))
            else:
                assert process.stdout is not None
                output = process.stdout.read().decode(errors="replace")
                print(f"{heading}\n{output}", flush=True)
                lines = output.split("\n")
            process.wait()
        finally:
            watch.cancel()
    summary = next((line.strip() for line in reversed(lines) if line.strip()), "")
    seconds = time.monotonic() - started
    return Result(one.name, process.returncode, summary, seconds, tuple(durations_of(lines)))


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that takes too long; faulthandler then shows the stacks of its threads."""
    process.send_signal(signal.SIGABRT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def shown(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Show the output of ``process`` as it comes; yield it line by line."""
    assert process.stdout is not None
    line = b""
    while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        *lines, line = (line + chunk).split(b"\n")
        yield from (each.decode(errors="replace") for each in lines)
    if line:
        yield line.decode(errors="replace")


def report(results: list[Result]) -> int:
    """Print the outcome of each pass, and the slowest tests of all; return the exit status."""
    if slowest := longest((each.name, one) for each in results for one in each.slowest):
        print("\n=== the slowest tests")
        print("\n".join(slowest))
    print("\n=== every pass")
    for result in results:
        print(f"{result.name} ({result.seconds:.0f} s, exit status {result.status})")
        print(result.summary)
    failed = [result.name for result in results if result.status]
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    return int(bool(failed))


def side_by_side() -> int:
    """Return how many passes run at once: three on two cores or more, because passes also wait."""
    cores = os.cpu_count() or 1
    return 1 if cores == 1 else 3


def main() -> int:
    """Run the requested passes; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the test suite on every build.")
    names = [one.name for one in PASSES]
    parser.add_argument("--only", action="append", choices=names, help="run this pass only")
    parser.add_argument("--jobs", type=int, help="how many passes run side by side")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    chosen = [one for one in PASSES if one.name in (options.only or ())] or usual_passes()
    jobs = options.jobs or min(side_by_side(), len(chosen))
    for one in chosen:
        if one.build and not reason_to_skip(one):
            built_variant(one)
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda one: run(one, options.pytest, at_once=jobs == 1), chosen)
        return report(list(results))


if __name__ == "__main__":
    sys.exit(main())
