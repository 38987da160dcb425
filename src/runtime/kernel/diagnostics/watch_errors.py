"""Errors about descriptors that a selector cannot watch: their kind, and advice."""

from __future__ import annotations

import errno
import os
import stat

_KINDS = {
    stat.S_IFREG: "a regular file, which is always ready",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device that is always ready",
    stat.S_IFBLK: "a block device, which is always ready",
}


def explain_watch_error(fd: int, error: OSError) -> OSError:
    """Return ``error``, which a selector raised for ``fd``, with the kind of the descriptor."""
    reason = error.strerror or str(error)
    if error.errno == errno.EBADF:
        return OSError(
            error.errno,
            f"{reason}: file descriptor {fd} is not open: it was closed, or never opened",
        )
    if error.errno != errno.EPERM:
        return error
    try:
        kind = _KINDS.get(stat.S_IFMT(os.fstat(fd).st_mode), "a kind of file that has no events")
    except OSError:
        return error
    return OSError(
        error.errno,
        f"{reason}: file descriptor {fd} is {kind}, and cannot be watched: read and write it "
        "without waiting, or in a thread: see to_thread()",
    )
