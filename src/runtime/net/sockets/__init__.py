"""Operations on plain sockets: ``sock_*``, readiness, sendfile, passing descriptors.

These are sockets that the program made itself. Connections with a transport or streams belong to
``net.connection``.
"""
