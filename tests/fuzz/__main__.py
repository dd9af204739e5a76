"""Tries a parser of foreign bytes with what libFuzzer finds, guided by what the code does:

    cd tests; python -m fuzz "judge replies" -max_total_time=600

Without a name all of them are tried in turn, each for so many seconds. Needs atheris, which is not among the
project's dependencies (`pip install atheris`; Linux, Python 3.11 to 3.13). What breaks a parser is written to
crash-<hash> in the current folder: make it a seed in make/parsers.py.
"""

import importlib
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any


def main() -> None:
    """Try the parser that is named, or each in a process of its own."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["ixt_operator", "ixt_workloads"]):
        from make.parsers import PARSERS

    name, *flags = sys.argv[1:] if sys.argv[1:] and not sys.argv[1].startswith("-") else ["", *sys.argv[1:]]
    if not name:
        for each in PARSERS:
            print(f"== {each}", flush=True)
            subprocess.run(
                [sys.executable, "-m", "fuzz", each, *(flags or ["-max_total_time=30"])], check=True
            )
        return
    parser = PARSERS[name]

    def tried(content: bytes) -> None:
        with suppress(*parser.refusals):
            parser.read(content)

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(parser.seeds):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, "-timeout=20", "-rss_limit_mb=2048", *flags], tried)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
