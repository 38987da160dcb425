"""The operating system besides the network: pipes, processes, signals, calls in threads.

It stands on the kernel. Processes with streams belong to ``runtime.subprocess``, which knows the
network too.
"""
