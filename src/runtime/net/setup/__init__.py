"""Making connections and servers: connecting, listening and accepting, for streams and protocols.

Reading and writing on an established connection belong to ``net.connection``; operations that need
only a socket belong to ``net.sockets``.
"""
