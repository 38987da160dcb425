"""Soak test with connections that break, for minutes or hours: ``make soak``.

::

    python -m tests.soak.run --minutes 10           longer than by default
    python -m tests.soak.run --seed 7               with the random choices of another run

Servers of every kind run all the time. In each round, clients of every kind hold some hundred
conversations with them, directly or through proxies that split, delay, truncate and reset; the
clients themselves abort, reset, leave, and are cancelled. Between two rounds all is quiet, and the
objects and the memory of the process are measured. The exit status is 0 if there was no more at the
end than after the first rounds, every conversation ended, the received data was the sent data, and
nothing was reported to the loop's exception handler.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import random
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import runtime
from tests.soak.clients import Conversation
from tests.soak.measures import Measures
from tests.soak.servers import Address, started
from tests.support.certificates import client_context, make_certificates, server_context
from tests.support.faults import Delay, Fault, HalfClose, Plan, Reset, SlowReader, Split, Truncate
from tests.support.proxy import FaultProxy

_AT_ONCE = 16
"""Number of simultaneous conversations."""

_IN_ROUND = 240
_WARM_UP = 0.15
"""Share of the time, but at least two rounds, before the measurement for the comparison."""

_PATIENCE = 60.0
"""Seconds allowed for a conversation, and for all connections to end after a round."""


def _plan(chance: random.Random) -> Plan:
    """Return the faults of a connection through a proxy."""
    after = int(10 ** chance.uniform(0, 5.7))
    ways: tuple[Fault, ...] = (Reset(after), Truncate(after), HalfClose(after))
    speeds: tuple[Fault, ...] = (
        Delay(0.0005, jitter=0.002),
        Split(range(1, 5000), by_chance=True),
        SlowReader(16384, 0.0005, kernel_buffer=16384),
    )
    there = (chance.choice(speeds), *([chance.choice(ways)] if chance.random() < 0.7 else ()))
    back = (chance.choice(speeds), *([chance.choice(ways)] if chance.random() < 0.3 else ()))
    return Plan(to_server=there, to_client=back)


class Soak:
    """Conversations with servers of every kind, and the problems that were found."""

    def __init__(self, context: ssl.SSLContext, seed: int) -> None:
        self._context = context
        self._chance = random.Random(seed)
        self.manners: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []

    def report(self, loop: Any, context: dict[str, Any]) -> None:
        """Record a report to the loop's exception handler."""
        self.faults.append(f"reported: {context['message']} ({context.get('exception')!r})")

    async def round(self, addresses: dict[tuple[str, bool], Address]) -> None:
        """Hold the conversations of a round; return once all of their connections have ended."""
        tasks_before = len(runtime.all_tasks())
        with contextlib.ExitStack() as stack:
            ways: list[tuple[Address, bool, bool]] = []
            for (_, is_secure), address in addresses.items():
                plans = [_plan(self._chance) for _ in range(_IN_ROUND)]
                proxy = stack.enter_context(FaultProxy(address, plans, self._chance.randrange(99)))
                ways += [(address, is_secure, True), (proxy.address, is_secure, False)]
            conversations = iter(
                [self._conversation(*self._chance.choice(ways)) for _ in range(_IN_ROUND)]
            )
            async with runtime.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(self._hold_all(conversations))
        await self._settled(tasks_before)

    def _conversation(self, address: Address, is_secure: bool, holds: bool) -> Conversation:
        context = self._context if is_secure else None
        return Conversation(address, context, self._chance.randrange(1 << 32), holds)

    async def _hold_all(self, conversations: Iterator[Conversation]) -> None:
        for conversation in conversations:
            try:
                async with runtime.timeout(_PATIENCE):
                    manner = await conversation.hold()
                self.manners[manner.name] += 1
            except Exception as error:
                self.faults.append(f"{conversation}: {error!r}")

    async def _settled(self, tasks_before: int) -> None:
        """Wait until the servers have noticed the end of every connection."""
        with contextlib.suppress(TimeoutError):
            async with runtime.timeout(_PATIENCE):
                while len(runtime.all_tasks()) > tasks_before:
                    await runtime.sleep(0.01)
        # The transports of protocols have no task: an answer may still be in a proxy.
        await runtime.sleep(0.1)


async def soak(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], seconds: float, seed: int
) -> list[str]:
    """Run rounds for ``seconds``; return the problems that were found."""
    server, client = contexts
    found = Soak(client, seed)
    runtime.get_running_loop().set_exception_handler(found.report)
    began = time.monotonic()
    before: Measures | None = None
    async with started(server) as addresses:
        for number in itertools.count(1):
            await found.round(addresses)
            now = Measures.now()
            spent = time.monotonic() - began
            print(f"{spent:6.1f} s, round {number}: {now}", flush=True)
            if before is None and number >= 2 and spent >= _WARM_UP * seconds:
                before = now
            elif before is not None and (spent >= seconds or found.faults):
                found.faults += now.more_than(before)
                break
    print(f"{found.manners.total()} conversations: {dict(found.manners)}")
    return found.faults


def main() -> int:
    """Run a soak; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        certificates = make_certificates(Path(folder))
        contexts = server_context(certificates), client_context(certificates)
    faults = runtime.run(soak(contexts, 60 * options.minutes, options.seed))
    for fault in faults[:20]:
        print(fault)
    print("everything is as it was" if not faults else f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
