"""Fuzzing of the accelerator with libFuzzer, AddressSanitizer and UBSan: ``make fuzz``.

::

    python -m tests.fuzz.run --seconds 3600            a longer run
    python -m tests.fuzz.run --seconds 600 --keep      and keep the programs with new coverage

Fuzzing starts from the programs in ``tests/fuzz/corpus``, which the test suite also runs on every
build. Findings are written to ``build/fuzz``; add a program that crashes to the corpus together
with the fix. Requires clang, and Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
BUILD = ROOT / "build" / "fuzz"
SOURCES = (
    Path(__file__).parent / "target.c",
    *sorted((ROOT / "src/runtime/kernel/native").glob("_accelerator*.c")),
)
LONGEST = 400
"""Maximal length of a program in bytes: a run has not enough steps to use more."""


def build_target() -> Path:
    """Compile the fuzzer; return the program."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = BUILD / "target"
    library = sysconfig.get_config_var("LIBDIR")
    command = [
        os.environ.get("CLANG", "clang"),
        *("-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"),
        "-fsanitize=fuzzer,address,undefined,float-cast-overflow",
        f"-I{sysconfig.get_path('include')}",
        *map(str, SOURCES),
        *("-o", str(target), f"-L{library}", f"-Wl,-rpath,{library}", "-lm"),
        f"-lpython{sysconfig.get_config_var('LDVERSION')}",
    ]
    subprocess.run(command, check=True)
    return target


def environment() -> dict[str, str]:
    """Return the environment in which the fuzzer runs."""
    paths = (ROOT, ROOT / "src", *filter(None, sys.path))
    return {
        **os.environ,
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        # The interpreter's own allocator would hide the ends of objects from the sanitizer, and
        # memory that the interpreter leaves to the system at exit is not a leak.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",
        # Programs use the accelerator that was compiled into the fuzzer.
        "RUNTIME_NO_ACCELERATOR": "1",
    }


def main() -> int:
    """Fuzz for the requested time; return the exit status."""
    parser = argparse.ArgumentParser(description="Fuzz the accelerator.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true", help="add what is new to tests/fuzz/corpus")
    options = parser.parse_args()
    if (
        not sys.platform.startswith("linux")
        or shutil.which(os.environ.get("CLANG", "clang")) is None
    ):
        print("fuzzing needs Linux and clang, which has libFuzzer")
        return 1
    target = build_target()
    found = BUILD / "corpus"
    found.mkdir(exist_ok=True)
    # Long programs are tried from the beginning; a program that hangs counts as a crash.
    limits = [f"-max_len={LONGEST}", "-len_control=0", "-timeout=30", f"-artifact_prefix={BUILD}/"]
    run = [str(target), *limits, f"-max_total_time={options.seconds}", str(found), str(CORPUS)]
    status = subprocess.run(run, env=environment(), check=False).returncode
    if options.keep and status == 0:
        merge = [str(target), *limits, "-merge=1", str(CORPUS), str(found)]
        status = subprocess.run(merge, env=environment(), check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
