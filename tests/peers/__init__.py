"""Faults known from other event loops and tools, each tested for its absence here."""
