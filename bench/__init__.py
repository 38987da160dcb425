"""The benchmark suite: ``python -m bench``. See README.md in this folder for the method."""
