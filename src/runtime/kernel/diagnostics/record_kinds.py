"""The kinds of records of the flight recorder, which the loop writes and ``recorder.py`` reads."""

from __future__ import annotations

from typing import Final

from runtime.kernel.native import ring

WAKE: Final = ring.WAKE
STEP: Final = 2
CALL: Final = 3
ENDED: Final = 4
POLL: Final = 5
TURN: Final = 6
COLLECTION: Final = 7
COLLECTED: Final = 8
CONNECTIONS: Final = 9

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
}
"""Their names. A step or a call lasts until the next step, call or poll."""
