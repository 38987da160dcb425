"""A soak: hours, if need be, of connections that break, after which nothing may be left."""
