"""`ixt compare` of many runs: its time from start to end, all in, beside the bound of 5 seconds.

    python benchmarks/compare.py [--runs 10] [--points 20]

The runs are invented, each of two arms with so many evaluations, in one storage; nothing is shared but the
data and the feedback. The last line is JSON: seconds by the clock and of the processor, for the page and for
Markdown.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from make.carried import carried_out
from make.lanes import BASIC, invent

IXT = (sys.executable, "-P", "-c", "from ixt_operator.cli.main import main; main()")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--points", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(given.runs):
            arms = [arm._replace(tokens=200_000 + 10_000 * number) for arm in BASIC]
            made = invent(folder / "storage", arms, points=given.points)
            name = f"run{number}"
            carried_out(folder / ".ixt" / name, made.storage.as_uri(), made.inputs, name)
        told = {}
        for form in ((), ("--markdown",)):
            names = [f"run{number}" for number in range(given.runs)]
            before, start = processor(), time.monotonic()
            subprocess.run([*IXT, "compare", *names, *form], cwd=folder, check=True, capture_output=True)
            seconds = {"clock": time.monotonic() - start, "processor": processor() - before}
            told["markdown" if form else "page"] = {which: round(each, 2) for which, each in seconds.items()}
    print(json.dumps({"runs": given.runs, "cores": os.cpu_count(), "load": os.getloadavg()[0], **told}))


def processor() -> float:
    """Seconds that ended children have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
