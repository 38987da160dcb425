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
fallback, and some have no debug mode: three passes leave the folders of their tests out, and also
the tests of whole programs and of what an installation contains.

The longer passes are divided into parts by folder, each of them a process. About a third of a part
is waiting, so on two cores or more three of them run side by side, the longest first. The build of
the installed package (``--build COMMAND``) also runs beside them: the passes that test that package
wait for it, and of the others the tests that start pytest or have to do with installations. If the
build fails, no further part begins.

The report at the end has one entry for each pass, and lists the slowest tests of all passes.
Arguments after ``--`` are passed to pytest; then no pass is divided::

    python -m tests.matrix --only compiled -- -k streams -x
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests.support.durations import OPTIONS, Duration, durations_of, longest
from tests.support.examples import SHORT_PASS
from tests.support.jobs import Job, run_jobs

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ROOT / "build" / "variants"
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
FIRST = "not slow or once" if shutil.which(COMPILER) else ""
FULL = "not build and not once and not reference"
SHORT = "not build and not once and not reference and not slow and not variation"
# Whole programs, and the contents and the documentation of an installation.
WHOLE = (
    "conformance",
    "soak",
    "test_demo.py",
    "test_doctests.py",
    "test_documentation_of_builds.py",
    "test_packaging.py",
    "test_tls_example.py",
)
ABOVE_ACCELERATOR = (
    *WHOLE,
    "arguments",
    "dropin",
    "examples",
    "observe",
    "simulation",
    "sync",
    "testing",
)
ABOVE_DEBUG_MODE = (
    *WHOLE,
    "arguments",
    "examples",
    "peers",
    "simulation",
    "test_alive_at_exit.py",  # It has tests of its own in development mode.
)
ABOVE_FALLBACK = (*ABOVE_ACCELERATOR, "peers")


@dataclass(frozen=True)
class Pass:
    """A run of the suite on one build."""

    name: str
    compiled: bool
    accelerator: str
    """0 for the fallback, 1 for the C accelerator, ``address`` for a sanitized one."""

    marks: str = ""
    """The marks of the tests to run, as pytest's option -m takes them; all tests if it is empty."""

    without: tuple[str, ...] = ()
    """Folders of ``tests`` that are left out."""

    parts: tuple[tuple[str, ...], ...] = ()
    """Folders and files of ``tests`` for each part but the last, which has the other tests."""

    python_flags: tuple[str, ...] = ()
    build: Mapping[str, str] = field(default_factory=dict)
    """The environment that builds the variant under test; empty if there is no variant to build."""

    @property
    def needs_compiler(self) -> bool:
        """Whether the pass needs a C compiler."""
        return self.compiled or self.accelerator != "0"

    def selections(self) -> Iterator[tuple[str, ...]]:
        """Yield the arguments with which pytest runs each part of the pass."""
        divided = [folder for part in self.parts for folder in part]
        for part in (*self.parts, ()):
            ignored = (*self.without, *(folder for folder in divided if folder not in part))
            yield (
                *(("-m", self.marks) if self.marks else ()),
                *(f"tests/{folder}" for folder in part if folder not in self.without),
                *(f"--ignore=tests/{folder}" for folder in ignored),
            )


LONGEST_PART = 2400.0
"""Seconds after which a part of a pass is ended: a run that hangs is a failure."""

# These parts take nothing from the installed package: they also run while it is being built.
PARTS = (
    ("net/connection",),
    ("kernel", "net/datagrams", "net/setup", "net/sockets"),
)
PARTS_OF_ALL = (
    *PARTS,
    ("dropin", "observe", "simulation", "sync", "system", "testing"),
    ("test_build.py",),
    ("bench", "conformance", "examples", "peers", "typing"),
)

PASSES = (
    Pass("interpreted", compiled=False, accelerator="0", marks=FIRST, parts=PARTS_OF_ALL),
    Pass("compiled", compiled=True, accelerator="1", marks=FULL, parts=PARTS_OF_ALL[:3]),
    Pass(
        "sanitized-accelerator",
        compiled=False,
        accelerator="address",
        marks=SHORT,
        without=ABOVE_ACCELERATOR,
        parts=PARTS,
        build={"RUNTIME_ACCELERATOR_ONLY": "1", "RUNTIME_SANITIZE": "address,undefined"},
    ),
    Pass(
        "compiled-dev",
        compiled=True,
        accelerator="1",
        marks=SHORT,
        without=ABOVE_DEBUG_MODE,
        parts=PARTS,
        python_flags=("-X", "dev"),
    ),
    Pass(
        "interpreted-accelerator",
        compiled=False,
        accelerator="1",
        marks=SHORT,
        parts=PARTS,
        build={"RUNTIME_ACCELERATOR_ONLY": "1"},
    ),
    Pass(
        "compiled-fallback",
        compiled=True,
        accelerator="0",
        marks=SHORT,
        without=ABOVE_FALLBACK,
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


def environment_of(one: Pass) -> dict[str, str]:
    """Return the environment of the tests of a pass, whose variant has been built."""
    environment = dict(os.environ)
    # Without bytecode files, which the environments of some machines forbid, every process would
    # compile all modules again, and pytest rewrite those of the tests.
    for variable in (
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "RUNTIME_NO_ACCELERATOR",
        SHORT_PASS,
    ):
        environment.pop(variable, None)
    if one.marks == SHORT:
        environment[SHORT_PASS] = "1"
    environment["RUNTIME_EXPECT_COMPILED"] = str(int(one.compiled))
    environment["RUNTIME_EXPECT_ACCELERATOR"] = one.accelerator
    if one.accelerator == "0":
        environment["RUNTIME_NO_ACCELERATOR"] = "1"
    if one.build:
        environment["PYTHONPATH"] = str(VARIANTS / one.name)
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
    """Outcome of a pass, of a part of it, or of a build."""

    name: str
    status: int
    summary: str
    """The last line of the output."""

    seconds: float = 0.0
    slowest: tuple[Duration, ...] = ()
    """The slowest tests."""


def merged(name: str, parts: list[Result]) -> Result:
    """Return the outcome of a pass, from the outcomes of its parts."""
    if len(parts) == 1:
        return replace(parts[0], name=name)
    counts: Counter[str] = Counter()
    unclear = []
    for part in parts:
        found = re.findall(r"(\d+) (failed|passed|skipped|x\w+|error|warning)", part.summary)
        counts.update({outcome: int(number) for number, outcome in found})
        if not found:
            unclear.append(part.summary)
    total = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    status = next((part.status for part in parts if part.status), 0)
    slowest = tuple(duration for part in parts for duration in part.slowest)
    summary = "; ".join([f"{total} in {len(parts)} parts", *unclear])
    return Result(name, status, summary, sum(part.seconds for part in parts), slowest)


def run(
    one: Pass,
    arguments: Sequence[str],
    python: str = sys.executable,
    *,
    title: str = "",
    at_once: bool = True,
) -> Result:
    """Run a pass, or the part of it that ``arguments`` select, with the interpreter ``python``.

    The output is shown as it comes, or, unless ``at_once``, when the run has ended. It begins with
    the name of the pass, or with ``title``.
    """
    title = title or one.name
    if reason := reason_to_skip(one):
        return Result(title, 0, f"left out: {reason}")
    command = [python, *one.python_flags, "-m", "pytest", *OPTIONS, *arguments]
    return run_command(title, command, environment_of(one), at_once)


def run_command(
    title: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    at_once: bool,
    folder: Path = ROOT,
) -> Result:
    """Run a command with a heading; show its output as it comes, or all of it at its end."""
    started = time.monotonic()
    heading = f"\n=== {title}: {shlex.join(command)}"
    if at_once:
        print(heading, flush=True)
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        watch = threading.Timer(LONGEST_PART, end, [process])
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
    return Result(title, process.returncode, summary, seconds, tuple(durations_of(lines)))


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
    """Return how many parts run at once: three on two cores or more, because parts also wait."""
    cores = os.cpu_count() or 1
    return 1 if cores == 1 else 3


INSTALLED = "installed package"


@dataclass(frozen=True)
class Build:
    """Build of a package that passes need."""

    name: str
    run: Callable[[bool], Result]
    """Build it. The argument says whether the output is to be shown as it comes."""

    needs: tuple[str, ...] = ()
    """Names of the builds that must have ended before this one begins."""


def build_variant(one: Pass, at_once: bool = True) -> Result:
    """Build the variant of a pass, unless it is up to date."""
    folder = VARIANTS / one.name
    stamp = VARIANTS / f"{one.name}.sha256"
    digest = source_digest()
    if folder.is_dir() and stamp.is_file() and stamp.read_text() == digest:
        return Result(variant_of(one), 0, "up to date")
    shutil.rmtree(folder, ignore_errors=True)
    VARIANTS.mkdir(parents=True, exist_ok=True)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder))
    command = (sys.executable, "-m", "pip", "install", *options, str(ROOT))
    result = run_command(variant_of(one), command, {**os.environ, **one.build}, at_once)
    if result.status == 0:
        stamp.write_text(digest)
    return result


def variant_of(one: Pass) -> str:
    """Return the name of the build of a pass's variant."""
    return f"{one.name}, the variant"


def builds_of(chosen: Sequence[Pass], command: str) -> list[Build]:
    """Return the builds for some passes; ``command``, if any, builds the installed package.

    They use the same folder, so that each of them begins after the one before.
    """
    builds = [
        Build(variant_of(one), partial(build_variant, one))
        for one in chosen
        if one.build and not reason_to_skip(one)
    ]
    if command:
        words = shlex.split(command)
        builds.append(
            Build(INSTALLED, lambda at_once: run_command(INSTALLED, words, os.environ, at_once))
        )
    return in_sequence(builds)


def in_sequence(builds: Sequence[Build]) -> list[Build]:
    """Return builds each of which needs the one before."""
    before = [(), *((one.name,) for one in builds)]
    return [replace(one, needs=needs) for one, needs in zip(builds, before, strict=False)]


@dataclass(frozen=True)
class Part:
    """Tests of a pass that run in a process of their own."""

    whole: Pass
    title: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Names of the builds that must have ended before, if they are made at all."""

    python: str = sys.executable


def parts_of(
    one: Pass,
    arguments: Sequence[str] = (),
    needs: tuple[str, ...] = (),
    python: str = sys.executable,
) -> list[Part]:
    """Return the parts of a pass, which have further needs if they are not among ``PARTS``.

    With further arguments of pytest, and if it cannot be run, the pass is not divided.
    """
    divided = () if arguments or reason_to_skip(one) else one.parts
    selections = list(replace(one, parts=divided).selections())
    parts = []
    for number, (folders, selection) in enumerate(zip((*divided, ()), selections, strict=True), 1):
        title = f"{one.name}, part {number} of {len(selections)}" if divided else one.name
        more = () if folders in PARTS else (INSTALLED,)
        parts.append(Part(one, title, (*selection, *arguments), (*needs, *more), python))
    return parts


def package_of(one: Pass) -> tuple[str, ...]:
    """Return the name of the build that a pass tests, unless it tests the sources."""
    if one.build:
        return (variant_of(one),)
    return (INSTALLED,) if one.compiled else ()


def run_parts(builds: Sequence[Build], parts: Sequence[Part], workers: int) -> list[Result]:
    """Make the builds, and run the parts; return the outcome of each build and each pass."""
    names = dict.fromkeys([*(one.name for one in builds), *(one.whole.name for one in parts)])
    results: dict[str, list[Result]] = {name: [] for name in names}
    at_once = workers == 1

    def build(one: Build) -> bool:
        result = one.run(at_once)
        results[one.name].append(result)
        return result.status == 0

    def test(one: Part) -> bool:
        result = run(one.whole, one.arguments, one.python, title=one.title, at_once=at_once)
        results[one.whole.name].append(result)
        return True

    made = {one.name for one in builds}
    jobs = [Job(one.name, partial(build, one), one.needs) for one in builds]
    for part in parts:
        needs = tuple(name for name in part.needs if name in made)
        jobs.append(Job(part.title, partial(test, part), needs))
    left = run_jobs(jobs, workers)
    for part in parts:
        if part.title in left:
            results[part.whole.name].append(Result(part.title, 1, "not run: a build has failed"))
    return [merged(name, outcomes) for name, outcomes in results.items() if outcomes]


def main() -> int:
    """Run the requested passes; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the test suite on every build.")
    names = [one.name for one in PASSES]
    parser.add_argument("--only", action="append", choices=names, help="run this pass only")
    parser.add_argument("--jobs", type=int, help="how many parts of passes run side by side")
    parser.add_argument(
        "--build", metavar="COMMAND", default="", help="how the installed package is built"
    )
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    chosen = [one for one in PASSES if one.name in (options.only or ())] or usual_passes()
    parts = [part for one in chosen for part in parts_of(one, options.pytest, package_of(one))]
    workers = min(options.jobs or side_by_side(), len(parts))
    return report(run_parts(builds_of(chosen, options.build), parts, workers))


if __name__ == "__main__":
    sys.exit(main())
