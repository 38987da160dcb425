"""Thousands of timers, which are sorted instead of pushed and popped one by one."""

from __future__ import annotations

import random

import pytest

import runtime
from tests.kernel.tools import Clock, turn


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.variation) for seed in range(4, 20))]
)
def test_they_fire_in_order_however_they_were_set(seed: int) -> None:
    generator = random.Random(seed)
    clock = Clock()
    loop = runtime.Loop(clock=clock)
    fired: list[tuple[float, int]] = []
    expected: list[tuple[float, int]] = []
    number = 0
    for _ in range(8):
        set_now = []
        for _ in range(generator.choice([1, 10, 63, 64, 65, 200, 1000])):
            # Many timers share few deadlines: timers with the same deadline keep the order of
            # setting.
            entry = (clock.now + 1 + generator.randrange(200), number)
            number += 1
            set_now.append((entry, loop.call_at(entry[0], fired.append, entry)))
            expected.append(entry)
        if generator.random() < 0.7:
            for entry, handle in generator.sample(set_now, len(set_now) // 3):
                handle.cancel()
                expected.remove(entry)
        clock.now += generator.choice([0, 1, 20, 150, 400])
        turn(loop, 3)
        assert fired == sorted(entry for entry in expected if entry[0] <= clock.now)
    clock.now = 1e9
    turn(loop, 3)
    assert fired == sorted(expected)
    loop.close()


def test_a_callback_may_cancel_timers_due_with_it() -> None:
    clock = Clock()
    loop = runtime.Loop(clock=clock)
    fired: list[int] = []
    handles: list[runtime.TimerHandle] = []

    def fire(number: int) -> None:
        fired.append(number)
        for handle in handles[number + 1 :: 2]:
            handle.cancel()

    handles += [loop.call_at(1.0, fire, number) for number in range(1000)]
    clock.now = 2.0
    turn(loop, 3)
    assert fired == list(range(0, 1000, 2))
    loop.close()
