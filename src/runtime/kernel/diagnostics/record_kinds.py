"""The kinds of records of the flight recorder, which the loop writes and ``recorder.py`` reads."""

from __future__ import annotations

from typing import Final

from runtime.kernel.native import ring

WAKE: Final = ring.WAKE
STEP: Final = ring.STEP
CALL: Final = ring.CALL
ENDED: Final = 4
POLL: Final = ring.POLL
TURN: Final = ring.TURN
COLLECTION: Final = 7
COLLECTED: Final = 8
CONNECTIONS: Final = 9
TIMER: Final = ring.TIMER
TIMER_CANCELLED: Final = ring.TIMER_CANCELLED

KINDS: Final = {
    WAKE: "wake",
    STEP: "step",
    CALL: "call",
    ENDED: "ended",
    POLL: "poll",
    TURN: "turn",
    COLLECTION: "collection",
    COLLECTED: "collected",
    CONNECTIONS: "connections",
    TIMER: "timer",
    TIMER_CANCELLED: "timer cancelled",
}
"""Their names. A step or a call lasts until the next step, call, poll or turn."""
