"""Options of the command line for the files that show reports, and the writing of those files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import html, markdown, pictures
from bench.record import Record

PICTURED = "3.14"
"""The Python that the pictures show, if several were measured."""


def outputs() -> argparse.ArgumentParser:
    """Return the parser of the options that choose the output formats of a report."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    made.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="put the figures into a page of documentation; may be given several times",
    )
    made.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="write the plots as SVG files",
    )
    return made


def write_outputs(options: argparse.Namespace, records: Sequence[Record]) -> int:
    """Write the files that the options ask for, and print their paths; return the exit status."""
    if options.html is not None:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(html.page(records))
        print(f"page: {options.html}")
    if options.pictures is not None:
        shown = [one for one in records if one.version == PICTURED] or records
        pictures.write(options.pictures, shown[0])
        print(f"pictures: {options.pictures}")
    for path in options.markdown:
        try:
            markdown.write(path, records)
        except ValueError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        print(f"page: {path}")
    return 0
