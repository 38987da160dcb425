"""Code that runs in a contender's process: each case is written once, for any ``Api``."""
