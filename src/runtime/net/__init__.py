"""The network: readiness, sockets, connections, servers and streams. It stands on the kernel."""
