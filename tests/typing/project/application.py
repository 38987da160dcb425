"""Application that uses the library and ``runtime`` side by side."""

from __future__ import annotations

import sys
from typing import assert_type

import postbox

import runtime


async def length_of(word: str) -> int:
    await runtime.sleep(0)
    return len(word)


class Flaky:
    def __init__(self, failures: int) -> None:
        self._failures = failures

    async def fetch(self, name: str, *, shout: bool = False) -> str:
        if self._failures > 0:
            self._failures -= 1
            raise ConnectionError(name)
        return name.upper() if shout else name


async def ask_all(port: int, words: list[str]) -> list[str]:
    async with postbox.LineClient.connected(port) as client:
        return [await client.ask(word) for word in words]


async def main() -> int:
    lengths = await postbox.map_limited(length_of, ["a", "bc", "def"], limit=2)
    assert_type(lengths, list[int])
    print(lengths)

    first = await postbox.first_of(runtime.sleep(10, "late"), runtime.sleep(0, "early"))
    assert_type(first, str)
    print(first)

    fetch = postbox.retrying(3, ConnectionError)(Flaky(2).fetch)
    fetched = await fetch("page", shout=True)
    assert_type(fetched, str)
    print(fetched)

    async with postbox.Batcher[int, float](
        lambda batch: [number / 2 for number in batch]
    ) as halves:
        answers = await runtime.gather(halves.ask(1), halves.ask(2))
    assert_type(answers, tuple[float, float])
    print(*answers)

    server = postbox.LineServer(str.title)
    async with server.listening() as port, runtime.timeout(60):
        print(await ask_all(port, ["good", "morning"]))

    process = await runtime.create_subprocess_exec(
        sys.executable, "-c", "print('from a process')", stdout=runtime.PIPE
    )
    output, _ = await process.communicate()
    if output is not None:
        print(output.decode().strip())
    return 0


if __name__ == "__main__":
    sys.exit(runtime.run(main()))
