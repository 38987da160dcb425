"""Public functions that need no loop object: the current loop and task, awaitables, call graphs.

These modules import ``core``, and no module of the hot path imports them. Functions that wait for
several awaitables, with timeouts, or for a lock, belong to ``runtime.sync``.
"""
