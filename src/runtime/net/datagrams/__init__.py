"""Datagram endpoints, for protocols and for tasks.

Host names are resolved by ``net.resolver``, as for connections. Nothing here knows
``net.connection``.
"""
