"""`ixt`, loaded once and forked for each run, so that hundreds of runs can be killed in seconds.

Every line of stdin is JSON {arguments, folder, env, at, how}. The run gets a signal just before its `at`-th
change of a file below the folder or start of a process, or just after such a start; with 0 it is left alone.
`how` is the number of a signal; negative: that signal again at every further change; "all": SIGKILL for all
that it started, then for itself. Answered with its exit code (negative: the signal) in a line; what it says
is in `said` in the folder.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from make.processes import kill, marked

from ixt_operator.cli.main import main

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Countdown:
    """Does to this process what was asked for, at the moment that was asked for."""

    def __init__(self, folder: str, at: int, how: int | str) -> None:
        self.folder = folder
        self.left = at
        self.how = how

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        below = bool(arguments) and str(arguments[0]).startswith(self.folder)
        changes = event in CHANGES or (event == "open" and arguments[2] & WRITING)
        if (below and changes) or event == "subprocess.Popen":
            self.step()

    def step(self) -> None:
        self.left -= 1
        if self.how == "all":
            if self.left == 0:
                for pid in marked(Path(self.folder, ".ixt", "test")):
                    kill(pid)
                os.kill(os.getpid(), signal.SIGKILL)
        elif self.left == 0 or (self.left < 0 and int(self.how) < 0):
            os.kill(os.getpid(), abs(int(self.how)))


def run(arguments: list[str], folder: str, env: dict[str, str], at: int, how: int | str) -> None:
    """Be `ixt` to the end."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    output = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if at:
        countdown = Countdown(folder, at, how)
        start = subprocess.Popen.__init__

        def started(*given: Any, **options: Any) -> None:
            start(*given, **options)
            countdown.step()

        subprocess.Popen.__init__ = started
        sys.addaudithook(countdown.watch)
    sys.argv = ["ixt", *arguments]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(**json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
