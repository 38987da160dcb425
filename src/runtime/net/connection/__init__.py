"""One connection: the socket, the TLS layer, and the adapters to streams and to protocols on top.

How a connection comes about belongs to ``net.setup``; operations on sockets of the program's own to
``net.sockets``.
"""
