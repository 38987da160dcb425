"""Soak test: connections that break, for hours if desired, after which nothing may be left."""
