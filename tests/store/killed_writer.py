"""Writes and commits an artifact again and again, each time killed one step further.

`killed_writer.py URI`: the n-th writer works in URI/<n> and gets SIGKILL just before its n-th file operation
(file://) or around its requests (s3://). Prints how many writers there were; the last one lived.
"""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import obstore

from ixt_workloads.store import ArtifactWriter, open_store

FILES = {"a.bin": b"a" * 1000, "nested/b.bin": b"b" * 1000}
OPERATIONS = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}
REQUESTS = ("put", "get", "head", "list")


class Countdown:
    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def arm_files(countdown: Countdown, folder: str) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and str(arguments[0]).startswith(folder):
            countdown.step()

    sys.addaudithook(hook)


def arm_requests(countdown: Countdown) -> None:
    def around(request: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            countdown.step()
            answer = request(*arguments, **options)
            countdown.step()
            return answer

        return call

    for name in REQUESTS:
        setattr(obstore, name, around(getattr(obstore, name)))


def write(uri: str, steps: int) -> None:
    if uri.startswith("file://"):
        arm_files(Countdown(steps), uri.removeprefix("file://"))
    else:
        arm_requests(Countdown(steps))
    writer = ArtifactWriter(open_store(uri), "k", "Train", {}, run="killed", attempt=0)
    for path, content in FILES.items():
        writer.add(path, content)
    writer.commit({}, FILES)


def main() -> None:
    for number in itertools.count(1):
        # Forked before obstore starts its threads.
        child = os.fork()
        if child == 0:
            write(f"{sys.argv[1]}/{number}", number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            print(number)
            return
        assert os.WIFSIGNALED(status), f"writer {number} failed by itself"


main()
