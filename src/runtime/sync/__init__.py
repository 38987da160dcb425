"""How coroutines wait for one another: sleeping, gathering, time-outs, groups, locks, queues.

It stands on the kernel alone.
"""
