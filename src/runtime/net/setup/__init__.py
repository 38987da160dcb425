"""How connections and servers come about: connecting, listening, accepting, for both APIs.

What happens on a connection that exists belongs to ``net.connection``; what only needs a socket to
``net.sockets``.
"""
