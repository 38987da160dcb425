"""Comments, docstrings and pages as text, and the words that make a sentence hard to follow.

A sentence that uses a relative clause in the place of a noun ("what was written and not taken yet"
for "the number of unsent bytes") leaves the reader to guess which object it speaks of. Such
sentences are found by the words that they are made with. To list them, of files or folders::

    python -m tests.support.prose src/runtime/net docs/tutorial.md
"""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import ROOT

INDEFINITE = r"\b(?:nobody|somebody|everybody|anybody|whoever)\b"
"""Pronouns that stand for a noun which the writer knows."""

RELATIVE = r"\bwhat\b"
"""The word that most often begins a clause where a noun is missing."""

BANNED = {
    r"\btime-outs?\b": "timeout",
    r"\bcircles?\b": "reference cycle",
    r"\b(?:own|'s) affair\b": "the responsibility, named",
    r"\bseldom\b": "rarely",
    r"\bleaf\b": "accelerator",
    r"\btwins?\b": "fallback",
    r"\byardsticks?\b": "reference",
}
"""Private terms, and the words of the field that replace them."""


@dataclass(frozen=True)
class Text:
    """A comment, a docstring or a paragraph, and where it begins."""

    path: Path
    line: int
    text: str


def texts_of(path: Path) -> Iterator[Text]:
    """Give the prose of a file: its comments and docstrings, or its paragraphs if it is a page."""
    if path.suffix == ".py":
        yield from _texts_of_python(path)
    elif path.suffix in {".c", ".h"}:
        yield from _texts_of_c(path)
    else:
        yield from _texts_of_page(path)


def _texts_of_python(path: Path) -> Iterator[Text]:
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        # A string that is a statement of its own documents a function, a class or an attribute.
        match node:
            case ast.Expr(ast.Constant(str(text))):
                yield Text(path, node.lineno, text)
    lines = iter(source.splitlines(keepends=True))
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type != tokenize.COMMENT:
            continue
        number = token.start[0]
        if block and number != last + 1:
            yield Text(path, first, "\n".join(block))
            block = []
        if not block:
            first = number
        block.append(token.string.lstrip("# "))
        last = number
    if block:
        yield Text(path, first, "\n".join(block))


def _texts_of_c(path: Path) -> Iterator[Text]:
    source = path.read_text()
    for found in re.finditer(r"/\*(.*?)\*/|//([^\n]*)", source, re.DOTALL):
        line = source.count("\n", 0, found.start()) + 1
        yield Text(path, line, found[1] or found[2] or "")


def _texts_of_page(path: Path) -> Iterator[Text]:
    in_code = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith(("```", ":::")):
            in_code = not in_code
        elif not in_code:
            yield Text(path, number, line)


def prose_files(paths: Iterable[Path] = ()) -> list[Path]:
    """Return the files of the project that hold prose; of ``paths`` only, if there are any."""
    chosen = list(paths) or [ROOT / name for name in ("src", "bench", "tests", "docs", "README.md")]
    found: list[Path] = []
    for path in chosen:
        if path.is_dir():
            for suffix in ("py", "c", "h", "md"):
                found += sorted(path.rglob(f"*.{suffix}"))
        else:
            found.append(path)
    return found


@dataclass
class Count:
    """How many words there are, and how many of them are of each kind."""

    words: int = 0
    relative: int = 0
    indefinite: int = 0

    def add(self, text: str) -> None:
        self.words += len(re.findall(r"[A-Za-z][A-Za-z'-]*", text))
        self.relative += len(re.findall(RELATIVE, text, re.IGNORECASE))
        self.indefinite += len(re.findall(INDEFINITE, text, re.IGNORECASE))

    def per_thousand(self) -> tuple[float, float]:
        """Return the number of relative and of indefinite words among 1,000."""
        thousands = max(self.words, 1) / 1000
        return self.relative / thousands, self.indefinite / thousands


def main() -> int:
    """List the sentences that a reader would stumble over."""
    count = Count()
    pattern = re.compile("|".join([RELATIVE, INDEFINITE, *BANNED]), re.IGNORECASE)
    for path in prose_files(map(Path, sys.argv[1:])):
        for text in texts_of(path):
            count.add(text.text)
            for offset, line in enumerate(text.text.splitlines()):
                if pattern.search(line):
                    print(f"{path}:{text.line + offset}: {line.strip()}")
    relative, indefinite = count.per_thousand()
    print(f"{count.words} words; per 1,000: {relative:.1f} relative, {indefinite:.1f} indefinite")
    return 0


if __name__ == "__main__":
    sys.exit(main())
