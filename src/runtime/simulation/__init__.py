"""Deterministic simulation: the production loop under every schedule, each replayed from a token.

Here belong the choices of a run, the strategies that make them, the loop that runs the entries of
its ready queue in the chosen order, the simulated world, and what a run is examined for. Tools for
tests that need no schedules belong in ``testing``.
"""

from __future__ import annotations
