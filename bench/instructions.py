"""Instruction counts: ``python -m bench instructions``.

A count of instructions does not depend on other processes, temperature, or clock speed of the
machine. callgrind runs a few fixed workloads on the compiled build and on asyncio, in the same
interpreter. The ratio of the two counts is compared with ``instructions.json``: a ratio changes
little between interpreters that were compiled with different options.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import CONTENDERS, ContenderError, enter
from bench.counted import LONGER, MARK, WORKLOADS
from bench.process import ROOT

BASELINE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.1
"""Allowed relative increase of a workload over the baseline."""

MOST_FOR_WATCHING = 0.03
"""Allowed relative increase of an echo while the loop watches for slow callbacks.

The aim is 2% of the echo benchmark, judged by the CPU time in the case ``watch_echo_1k_x10``. This
bound is different, because callgrind does not see the kernel's part of an echo, which is the larger
part. Watching was measured to add 2.1% to the remaining instructions. Nearly all of this is added
by the mere existence of a second thread, even an idle one: the C library then has to lock. The
bound guards that figure.
"""

MOST_FOR_RECORDING = 0.05
"""Allowed relative increase of an echo while the flight recorder is on.

callgrind counts the work of the program, and not that of the kernel, which is the larger part. It
does not know the way to read the clock without a system call, which takes some ten instructions
more for each record than it counts.
"""

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Outcome:
    """Judgement of a workload."""

    text: str
    is_worse: bool = False


def totals(folder: Path) -> list[int]:
    """Return the counts that callgrind wrote at the marks, in order."""
    dumps = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    found = [re.search(r"^totals: (\d+)$", dump.read_text(), re.MULTILINE) for dump in dumps]
    return [int(one[1]) for one in found if one is not None]


def per_operation(names: Sequence[str], counted: Sequence[int]) -> dict[str, float]:
    """Return the instructions per operation, by workload.

    Every workload has two runs, and each run has two counts: the instructions before it, and those
    of the run. Raises ValueError if there are fewer counts.
    """
    if len(counted) != 4 * len(names):
        raise ValueError(f"There are {len(counted)} counts for {len(names)} workloads.")
    found = {}
    for number, name in enumerate(names):
        short, long = counted[4 * number + 1], counted[4 * number + 3]
        found[name] = (long - short) / ((LONGER - 1) * WORKLOADS[name][1])
    return found


def count(contender: str, compiled_in: Path | None = None) -> dict[str, float]:
    """Return the instructions per operation of each workload.

    Raises ContenderError if the contender is not available, and RuntimeError if callgrind fails.
    """
    entry = enter(CONTENDERS[contender], compiled_in)
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--dump-before={MARK}", f"--callgrind-out-file={folder}/out"]
        command = [sys.executable, "-m", "bench.counted", entry.contender.api]
        run = subprocess.run(
            ["valgrind", "--quiet", "--tool=callgrind", *options, *command],
            env={**entry.environment, "PYTHONHASHSEED": "0"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise RuntimeError(f"callgrind failed with {contender}:\n{run.stderr}")
        return per_operation(run.stdout.split(), totals(Path(folder)))


def relative(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """Return our instructions divided by theirs, by workload."""
    return {name: ours[name] / theirs[name] for name in ours if name in theirs}


def judge(found: Mapping[str, float], baseline: Mapping[str, float]) -> list[Outcome]:
    """Compare the measured ratios with the baseline, workload by workload."""
    outcomes = []
    for name, value in found.items():
        wanted = baseline.get(name)
        if wanted is None:
            outcomes.append(Outcome(f"{name}: {value:.3f} of asyncio's; not in the baseline", True))
            continue
        change = value / wanted - 1
        words = f"{name}: {value:.3f} of asyncio's, {wanted:.3f} in the baseline, {change:+.1%}"
        if change > TOLERANCE:
            outcomes.append(Outcome(f"{words}: WORSE by more than {TOLERANCE:.0%}", True))
        elif change < -TOLERANCE:
            outcomes.append(Outcome(f"{words}: better; take it over with --update"))
        else:
            outcomes.append(Outcome(words))
    return outcomes


def judge_watching(ours: Mapping[str, float]) -> Outcome:
    """Judge the instructions that watching for slow callbacks adds to an echo."""
    return _judge_addition(ours, "echo_watched", "watching for slow callbacks", MOST_FOR_WATCHING)


def judge_recording(ours: Mapping[str, float]) -> Outcome:
    """Judge the instructions that the flight recorder adds to an echo."""
    return _judge_addition(ours, "echo_recorded", "the flight recorder", MOST_FOR_RECORDING)


def _judge_addition(ours: Mapping[str, float], workload: str, what: str, most: float) -> Outcome:
    added = ours[workload] / ours["echo"] - 1
    words = f"{what} adds {added:+.2%} to an echo"
    is_worse = added > most
    return Outcome(words + f": WORSE than {most:.0%}" * is_worse, is_worse)


def main(arguments: Sequence[str]) -> int:
    """Count and compare. Returns 1 if a workload takes too many, 2 if nothing was counted."""
    usage = argparse.ArgumentParser(prog="python -m bench instructions")
    usage.add_argument("--compiled", type=Path, metavar="FOLDER", help="where the package lies")
    usage.add_argument("--update", action="store_true", help="make this the baseline")
    options = usage.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print("There is no valgrind: install it, for its callgrind counts.", file=sys.stderr)
        return 2
    try:
        ours, theirs = count("runtime-compiled", options.compiled), count("asyncio")
    except (ContenderError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for name, value in ours.items():
        print(f"{name}: {value:,.0f} instructions an operation")
    baselines = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    found = relative(ours, theirs)
    if options.update:
        baselines[VERSION] = {name: round(value, 4) for name, value in found.items()}
        BASELINE.write_text(json.dumps(baselines, indent=1) + "\n")
    outcomes = [judge_watching(ours), judge_recording(ours)]
    if VERSION in baselines:
        outcomes += judge(found, baselines[VERSION])
    else:
        print(f"There is no baseline for Python {VERSION}: --update makes one.")
    for outcome in outcomes:
        print(outcome.text)
    return 1 if any(outcome.is_worse for outcome in outcomes) else 0
