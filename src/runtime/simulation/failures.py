"""The folder in which the tokens of failed runs are kept, to be tried first the next time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from runtime.kernel.diagnostics.describe import safe_text

FAILURES = Path(".runtime") / "failures"
"""The folder that the pytest plugin and the command line use."""

_MOST = 20
"""Number of failures of one program that are kept: the latest."""


class FailureFolder:
    """The failures of one program, which has a name, in one file of a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        readable = re.sub(r"[^\w.]+", "_", name)[:80]
        digest = hashlib.blake2b(
            name.encode("utf-8", "backslashreplace"), digest_size=4
        ).hexdigest()
        self._path = folder / f"{readable}-{digest}.json"

    def _read(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text())["failures"]
            return [each for each in found if isinstance(each, dict) and "token" in each]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _write(self, failures: list[dict[str, Any]]) -> None:
        if not failures:
            self._path.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"program": self._name, "failures": failures}, indent=2)
        self._path.write_text(text + "\n")

    def tokens(self) -> list[str]:
        """Return the tokens that are kept, the latest first."""
        return [str(each["token"]) for each in self._read()]

    def keep(self, token: str, error: BaseException) -> None:
        """Keep a failure. Raises OSError if the folder cannot be written."""
        others = [each for each in self._read() if each["token"] != token]
        line = f"{type(error).__name__}: {safe_text(error)}".partition("\n")[0]
        self._write([{"token": token, "error": line}, *others][:_MOST])

    def forget(self, token: str) -> None:
        """Drop a failure that does not happen any more, if the folder can be written."""
        with contextlib.suppress(OSError):
            self._write([each for each in self._read() if each["token"] != token])
