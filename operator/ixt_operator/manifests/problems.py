"""What is wrong with manifests, and the text of their files."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from ixt_workloads.contract.foreign import plain

MAX_BYTES = 2**20
"""Bytes of a file of manifests; an object of etcd has hardly more."""


class Problem(NamedTuple):
    """One thing that is wrong with a manifest."""

    file: str
    """The file, or the words of a command line that say the same."""
    line: int
    """From 1; 0 where there are no lines."""
    field: str
    """Path of the field, for example spec.stages[0].train.maxTokens; empty for the document."""
    message: str

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        return plain(f"{self.file}{line}: {self.field + ': ' if self.field else ''}{self.message}")


class ManifestError(ValueError):
    """All problems of a file, by line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: (problem.line, problem.field))
        super().__init__("\n".join(map(str, self.problems)))


def text_of(path: Path) -> str:
    """The text of a file; `-` is standard input. Raises ManifestError."""
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ManifestError([Problem(str(path), 1, "", f"has more than {MAX_BYTES:,} bytes")])
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise ManifestError([Problem(str(path), 1, "", f"cannot be read: {reason}")]) from None
