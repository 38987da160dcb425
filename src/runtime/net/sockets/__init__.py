"""Operations on plain sockets: ``sock_*``, readiness, sendfile, passing descriptors.

A socket here belongs to the program, and has no transport and no stream: those are
``net.connection``.
"""
