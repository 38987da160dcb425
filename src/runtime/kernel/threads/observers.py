"""Threads that observe the loops of the process: they never wake a loop by themselves."""

from __future__ import annotations

import threading
from typing import Final

observers: Final[list[threading.Thread]] = []
"""The threads that are running. A loop that only these could wake is idle, or in a deadlock."""
