"""C compiler that reuses object files: ``compiler.py FOLDER COMPILER ARGUMENT...``.

An object file is reused for the same arguments and the same preprocessed source. Line numbers do
not matter, since debugging information is off.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run the compiler, unless it has compiled the same before; return its exit status."""
    folder, compiler, *arguments = sys.argv[1:]
    if "-c" not in arguments or "-o" not in arguments:
        return subprocess.call([compiler, *arguments])
    place = arguments.index("-o")
    output = arguments[place + 1]
    options = arguments[:place] + arguments[place + 2 :]
    preprocess = [compiler, *(each for each in options if each != "-c"), "-E", "-P"]
    source = subprocess.run(preprocess, stdout=subprocess.PIPE, check=False)
    if source.returncode:
        return source.returncode
    digest = hashlib.sha256("\0".join([compiler, *options]).encode() + source.stdout)
    kept = Path(folder, f"{digest.hexdigest()}.o")
    if not kept.is_file():
        status = subprocess.call([compiler, *arguments])
        if status:
            return status
        shutil.copyfile(output, f"{kept}.new")
        os.replace(f"{kept}.new", kept)
        return 0
    shutil.copyfile(kept, output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
