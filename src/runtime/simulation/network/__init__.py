"""The simulated network: sockets, names, links and the selector of a world.

Here belongs everything below the production transports: what the operating system and the wire do
in a real run. Hosts and disks, which use it, belong in ``simulation``; the loop that schedules the
tasks does not belong here either.
"""
