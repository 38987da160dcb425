"""The network: connections, servers, streams, transports, datagrams and sockets.

It stands on the kernel. Pipes, processes and signals belong to ``runtime.system``.
"""
