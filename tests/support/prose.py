"""Comments, docstrings, error messages, pages and build files as text, and words to avoid there.

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
    r"(?<!there\s)(?<!there,\s)\b(?:is|are|was|were)\s+no\s+(?!longer|more\b|less\b)": "is not a",
    r"\bof\s+ours\b": "of this package",
    r"\b(?:go|goes|going|went|gone)\s+on\b(?!\s+(?:the|a|this|to|PATH)\b)": "continue",
}
"""Private terms and strained forms, and the words that replace them."""

RIDDLES = re.compile(
    r"(?:^|_)(?:what|whatever|who|whom|whoever|nobody|somebody|everybody|anybody|itself|ours"
    r"|theirs|from_now_on|goes_on|instead_of|is_the)(?:_|$)"
)
"""Parts of a name that refer to an object without naming it."""

BUILD_FILES = ("Makefile", "MANIFEST.in", "pyproject.toml", "setup.py", ".ci", ".github")
"""The files that build and test the package, and their folders."""


@dataclass(frozen=True)
class Text:
    """A comment, a docstring or a paragraph, and where it begins."""

    path: Path
    line: int
    text: str


def texts_of(path: Path) -> Iterator[Text]:
    """Give the prose of a file: its comments, docstrings and error messages, or its paragraphs."""
    if path.suffix == ".py":
        found = _texts_of_python(path)
    elif path.suffix in {".c", ".h"}:
        found = _texts_of_c(path)
    elif path.suffix == ".md":
        found = _texts_of_page(path)
    else:
        found = _texts_of_comments(path)
    for text in found:
        # The patterns must find terms that are broken over two lines.
        yield Text(path, text.line, re.sub(r"\n[ \t*]*", "\n", text.text))


def _texts_of_python(path: Path) -> Iterator[Text]:
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        # A string that is a statement of its own documents a function, a class or an attribute.
        match node:
            case ast.Expr(ast.Constant(str(text))):
                yield Text(path, node.lineno, text)
            case ast.Raise(ast.Call() as call):
                yield from _texts_of_call(path, call)
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


def _texts_of_call(path: Path, call: ast.Call) -> Iterator[Text]:
    """Give the literal arguments of a call, with ``{}`` for each value in them."""
    for argument in call.args:
        match argument:
            case ast.Constant(str(text)):
                yield Text(path, argument.lineno, text)
            case ast.JoinedStr(values):
                parts = [
                    value.value if isinstance(value, ast.Constant) else "{}" for value in values
                ]
                yield Text(path, argument.lineno, "".join(map(str, parts)))


def _texts_of_c(path: Path) -> Iterator[Text]:
    source = path.read_text()
    for found in re.finditer(r"/\*(.*?)\*/|//([^\n]*)", source, re.DOTALL):
        line = source.count("\n", 0, found.start()) + 1
        yield Text(path, line, found[1] or found[2] or "")


def _texts_of_page(path: Path) -> Iterator[Text]:
    in_code = False
    first, paragraph = 0, list[str]()
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        fence = line.lstrip().startswith(("```", ":::"))
        if paragraph and (fence or not line.strip()):
            yield Text(path, first, "\n".join(paragraph))
            paragraph = []
        if fence:
            in_code = not in_code
        elif line.strip() and not in_code:
            first = first if paragraph else number
            paragraph.append(line)


def _texts_of_comments(path: Path) -> Iterator[Text]:
    """Give each comment of a makefile, a script or a settings file: the text after ``#``."""
    first, block = 0, list[str]()
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        comment = re.search(r"(?:^|\s)#+ (.*)", line)
        if comment is None and block:
            yield Text(path, first, "\n".join(block))
            block = []
        elif comment is not None:
            first = first if block else number
            block.append(comment[1])


def names_of(path: Path) -> Iterator[tuple[int, str]]:
    """Give the functions and classes that a Python file defines, each with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def prose_files(paths: Iterable[Path] = ()) -> list[Path]:
    """Return the files of the project that hold prose; of ``paths`` only, if there are any."""
    chosen = list(paths) or [
        *(ROOT / name for name in ("src", "bench", "tests", "docs")),
        *sorted(ROOT.glob("*.md")),
        *(ROOT / name for name in BUILD_FILES),
    ]
    found: list[Path] = []
    for path in chosen:
        if path.is_dir():
            for suffix in ("py", "c", "h", "md", "sh", "yml"):
                found += sorted(path.rglob(f"*.{suffix}"))
            if path.name == ".ci":
                found += sorted(path.iterdir())
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
            for match in pattern.finditer(text.text):
                before = text.text.count("\n", 0, match.start())
                line = text.text.splitlines()[before]
                print(f"{path}:{text.line + before}: {line.strip()}")
        if path.suffix == ".py":
            for number, name in names_of(path):
                if RIDDLES.search(name) and not name.startswith("test_"):
                    print(f"{path}:{number}: name {name}")
    relative, indefinite = count.per_thousand()
    print(f"{count.words} words; per 1,000: {relative:.1f} relative, {indefinite:.1f} indefinite")
    return 0


if __name__ == "__main__":
    sys.exit(main())
