"""What runs in a contender's process: each case written once, for any ``Api``."""
