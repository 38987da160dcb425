"""Networking: connections, servers, streams, transports, datagrams and sockets.

The package uses the kernel. Pipes, processes and signals belong to ``runtime.system``.
"""
