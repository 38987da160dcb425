"""Idleness of a loop, and the repair of its state when it stops or is interrupted.

This is the test whether a loop can continue, the recovery of tasks that an interrupt has dropped,
and the closing of asynchronous generators. The end of a whole ``run`` belongs to
``runtime.ending``.
"""
