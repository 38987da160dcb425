"""The operating system, without the network: pipes, processes, signals, calls in threads.

This package knows the kernel alone. Processes with streams belong to ``runtime.subprocess``, which
knows the network too.
"""
