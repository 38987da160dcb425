"""How coroutines wait for one another: sleeping, gathering, timeouts, groups, locks, queues.

It stands on the kernel alone.
"""
