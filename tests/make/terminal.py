"""A terminal: a program runs on it, and what its user sees is there to be read."""

import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_CODES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]")

_CUT = re.compile(r"(\x1b(\[[0-9;?]*)?)?\Z")
"""The beginning of a code whose end has not been read yet."""


class Screen:
    """What the few control codes that rich uses make of a screen; lines that scroll away are kept."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.widest = 0
        self._row = self._column = 0

    def write(self, text: str) -> None:
        """Show text. A code that is not known is an error, since what follows would be somewhere else."""
        for match in _CODES.finditer(text):
            number, code = match[1], match[2]
            match code or match[0]:
                case character if code is None and character not in "\r\n":
                    line = self.lines[self._row].ljust(self._column)
                    self.lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
                    self._column += 1
                    self.widest = max(self.widest, self._column)
                case "\r":
                    self._column = 0
                case "\n":
                    self._row += 1
                    self.lines += [""] * (self._row + 1 - len(self.lines))
                case "A":
                    self._row = max(0, self._row - int(number or 1))
                case "K" if number == "2":
                    self.lines[self._row] = ""
                case "m" | "h" | "l":
                    pass  # colours; whether there is a cursor
                case unknown:
                    raise ValueError(f"unknown code {match[0]!r} {unknown}")

    @property
    def text(self) -> str:
        """All lines, from the first that was written."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip()


def on_terminal(
    command: Sequence[str | Path],
    folder: Path,
    env: Mapping[str, str],
    seen: Callable[[Screen, "subprocess.Popen[bytes]"], None] = lambda *_: None,
    columns: int = 80,
    lines: int = 24,
) -> tuple[int, Screen]:
    """Run a program on a terminal to its end; its exit code and the screen. `seen` is called with the screen
    whenever something new is on it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    unset = ("COLUMNS", "LINES", "NO_COLOR", "CI")
    env = {name: value for name, value in env.items() if name not in unset} | {"TERM": "xterm-256color"}
    process = subprocess.Popen(command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = Screen(columns)
    decoder = codecs.getincrementaldecoder("utf-8")()
    text = ""
    try:
        while chunk := _read(ours):
            text += decoder.decode(chunk)
            cut = _CUT.search(text)
            assert cut  # if only of nothing
            screen.write(text[: cut.start()])
            text = cut[0]
            seen(screen, process)
        return process.wait(), screen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # nobody writes any more
        return b""
