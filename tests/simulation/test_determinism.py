"""Tokens repeat a run in any process, whatever the order of sets there: step by step."""

from __future__ import annotations

import os

import pytest

from tests.support.programs import run_program

PROGRAM = """
import hashlib
import sys

import runtime
from runtime import simulation
from runtime.simulation.choosers import Plan
from runtime.simulation.current import Settings
from runtime.simulation.executing import execute
from runtime.simulation.strategies import portfolio
from runtime.simulation.tokens import read_token, token_of


async def main():
    lock = runtime.Lock()
    queue = runtime.Queue(2)

    async def handle(reader, writer):
        async with writer:
            while line := await reader.readline():
                async with lock:
                    await runtime.sleep(0.001)
                writer.write(line.upper())

    async def client(port, number):
        reader, writer = await runtime.open_connection("127.0.0.1", port)
        async with writer:
            for line in range(2):
                writer.write(f"{number} {line}\\n".encode())
                await queue.put(await reader.readline())

    async def consume():
        for _ in range(6):
            await queue.get()

    async with await runtime.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        simulation.cancel_anywhere(runtime.create_task(runtime.sleep(0.002)))
        async with runtime.TaskGroup() as group:
            group.create_task(consume())
            for number in range(3):
                group.create_task(client(port, number))
        names = {task.get_name() for task in runtime.all_tasks()}


def trace_of(outcome):
    lines = [step.line() for step in outcome.trace]
    return "\\n".join([*lines, repr(outcome.error), str(outcome.steps)])


settings = Settings(lateness=0.001)
search = portfolio().search(int(sys.argv[2]))
for number in range(int(sys.argv[1])):
    first = execute(main, settings, search.next(), number, traced=True)
    search.learn(first.choices)
    text = str(token_of(first.choices, number, "tasks", 0.001))
    token = read_token(text)
    plan = Plan(token.values, token.counts, token.labels)
    again = execute(main, settings, plan, token.seed, traced=True)
    assert trace_of(again) == trace_of(first), number
    assert len(again.choices.values) == token.total
    digest = hashlib.sha256(trace_of(first).encode()).hexdigest()
    print(digest, len(text), first.error is None)
"""


def output_with_hash_seed(number: int, runs: int, seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(number)}
    done = run_program("-c", PROGRAM, str(runs), str(seed), environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_lengths(output: str) -> list[str]:
    """Return the digests: the tokens differ in length, since they name the hash seed."""
    return [line.split()[0] for line in output.splitlines()]


MANY = [pytest.param(100, seed, marks=pytest.mark.slow) for seed in range(5)]
"""Hundreds of tokens, in parts that each end within the limit of a test."""


@pytest.mark.parametrize(("runs", "seed"), [(25, 5), *MANY])
def test_a_token_is_repeated_step_by_step_in_every_process(runs: int, seed: int) -> None:
    first = without_lengths(output_with_hash_seed(1, runs, seed))
    assert first == without_lengths(output_with_hash_seed(2, runs, seed))
    assert len(first) == runs
    assert len(set(first)) > runs // 2
