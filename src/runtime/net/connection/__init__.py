"""One connection: the socket, the TLS layer, and the adapters to streams and to protocols on top.

Establishing connections and listening belong to ``net.setup``; operations on sockets that the
program made itself belong to ``net.sockets``.
"""
