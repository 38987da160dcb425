"""Small programs with known concurrency faults, each with its correction.

They use asyncio's functions only, so that other simulators can run them as well. A program is a
coroutine function ``program(correct)``: with ``correct`` the fault is corrected.
"""
