"""Batch size of a datagram socket: one in a conversation, many in a flood."""

from __future__ import annotations

from runtime.net.datagrams.batch_size import MOST, BatchSize


def receive(batch: BatchSize, there: int) -> int:
    """Simulate an event with ``there`` waiting datagrams; return the number received."""
    received = min(there, batch.size)
    if there < batch.size:
        batch.note_short_batch(received)
    else:
        batch.filled()
    return received


def test_a_conversation_rarely_costs_a_vain_attempt() -> None:
    batch = BatchSize()
    asked = 0
    for _ in range(10_000):
        asked += batch.size
        assert receive(batch, 1) == 1
    assert asked - 10_000 <= 10_000 // 64 + 8


def test_a_flood_is_received_in_ever_larger_batches() -> None:
    batch = BatchSize()
    sizes = [receive(batch, 1000) for _ in range(8)]
    assert sizes == [1, 2, 4, 8, 16, 32, MOST, MOST]


def test_a_flood_after_a_long_conversation_is_noticed() -> None:
    batch = BatchSize()
    for _ in range(1000):
        receive(batch, 1)
    events = 0
    while batch.size < MOST:
        receive(batch, 1000)
        events += 1
    assert events <= 64 + 5


def test_after_a_burst_the_next_event_is_a_probe() -> None:
    batch = BatchSize()
    for _ in range(1000):
        receive(batch, 1)
    while batch.size == 1:
        receive(batch, 10)
    receive(batch, 10)
    while batch.size > 1:
        receive(batch, 3)
    assert receive(batch, 10) == 1
    assert receive(batch, 10) == 2


def test_an_event_for_nothing_changes_nothing_but_the_size() -> None:
    batch = BatchSize()
    receive(batch, 1)
    assert batch.size == 2
    assert receive(batch, 0) == 0
    assert batch.size == 1
    receive(batch, 1)
    assert batch.size == 2
