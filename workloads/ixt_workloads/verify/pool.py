"""Verifies samples in child processes, one for each core, which are replaced when they are lost."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.verifiers import Verifier, VerifierType
from ixt_workloads.verify import confine
from ixt_workloads.verify.samples import MAX_REASON, TOO_LONG, Sample, Verdict, failure

GRACE_SECONDS = 5
"""More than a verifier's own seconds, for tests of code, which the child itself ends in time."""
START_SECONDS = 120
"""Most seconds until a child has imported what it needs."""
MAX_LINE = 65_536
TOGETHER = 32
"""Samples that a child is sent at a time."""
MAX_SAMPLE_BYTES = 16 * 2**20

_PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")
"""Variables of the step that its children have too: none with credentials."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Verifying:
    """A verifier with its children. One sample's verdict never raises; the verifier itself may be unusable:
    StepError, at the first sample at the latest."""

    def __init__(self, verifier: Verifier, processes: int | None = None) -> None:
        """`processes`: children at a time; unset: one for each core that this process may use."""
        if verifier.runs_foreign_code and (why := confine.problem()):
            raise StepError(
                Exit.CONFIG,
                f"verifier {verifier.type} runs code of others, which this machine cannot confine: {why}",
                "run the step on Linux on x86-64 or arm64 with seccomp, or take a verifier that runs no code",
            )
        self._verifier = verifier
        self._threads = ThreadPoolExecutor(processes or len(os.sched_getaffinity(0)), "verifier")
        self._children: dict[int, _Child] = {}
        """The child of each thread."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for child in self._children.values():
            child.stop()

    def verify(self, samples: Sequence[Sample]) -> list[Verdict]:
        """A verdict on each sample, in order."""
        parts = [samples[start : start + TOGETHER] for start in range(0, len(samples), TOGETHER)]
        return [verdict for part in self._threads.map(self._verdicts, parts) for verdict in part]

    def _verdicts(self, samples: Sequence[Sample]) -> list[Verdict]:
        lines = [sample.to_json() for sample in samples]
        found: list[Verdict] = []
        while len(found) < len(lines):
            if len(lines[len(found)]) > MAX_SAMPLE_BYTES:
                found.append(failure(f"the sample has more than {MAX_SAMPLE_BYTES >> 20} MiB"))
                continue
            rest = takewhile(lambda line: len(line) <= MAX_SAMPLE_BYTES, lines[len(found) :])
            # As far as the child came: the sample that it was lost on has its verdict by that.
            found += self._child().verdicts(list(rest))
        return found

    def _child(self) -> "_Child":
        """This thread's child, a new one where it was lost."""
        own = threading.get_ident()
        child = self._children.get(own)
        if child is None or not child.lives:
            self._children[own] = child = _Child(self._verifier)
        return child


def verify(verifier: Verifier, samples: Sequence[Sample], processes: int | None = None) -> list[Verdict]:
    """A verdict on each sample, in order. Raises StepError where the verifier cannot be used at all."""
    with Verifying(verifier, processes) as verifying:
        return verifying.verify(samples)


class _Child:
    """One child process, of the thread that starts it."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._folder = tempfile.TemporaryDirectory(prefix="ixt-verify-")
        ours, theirs = os.pipe()
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        if modules := environment.get("PYTHONPATH"):
            # The child's present folder is another one.
            places = (Path(place or ".").resolve() for place in modules.split(os.pathsep))
            environment["PYTHONPATH"] = os.pathsep.join(map(str, places))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ixt_workloads.verify.child", str(theirs)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(theirs,),
            env={**environment, **_ONE_THREAD, "HOME": self._folder.name, "TMPDIR": self._folder.name},
            cwd=self._folder.name, start_new_session=True, bufsize=0,
        )  # fmt: skip
        os.close(theirs)
        self._verdicts, self._read, self._unsent = ours, b"", b""
        assert self._process.stdin
        os.set_blocking(self._process.stdin.fileno(), False)
        self.lives = True
        self._start()

    def _start(self) -> None:
        self._unsent = self._verifier.model_dump_json(by_alias=True).encode() + b"\n"
        said = self._answer(START_SECONDS)
        problem = said.get("problem") if isinstance(said, dict) else f"it {said}"
        if problem:
            self.stop()
            raise StepError(
                Exit.CONFIG,
                f"verifier {self._verifier.type} cannot be used: {problem}"[:1000],
                "a function must be in the worker's image; what ixt's own verifiers need is in its image",
            )

    def verdicts(self, lines: Sequence[bytes]) -> list[Verdict]:
        """What the child says of samples, up to the first that it is lost on: it said nothing in time,
        or what is no verdict."""
        grace = GRACE_SECONDS if self._verifier.type is VerifierType.CODE_TESTS else 0
        # All are sent as soon as the pipe takes them, so that the child need not wait for each.
        self._unsent = b"".join(line + b"\n" for line in lines)
        found: list[Verdict] = []
        while len(found) < len(lines):
            said = self._answer(self._verifier.timeout_seconds + grace)
            try:
                found.append(failure(f"the verifier {said}") if isinstance(said, str) else _read(said))
            except (TypeError, ValueError, KeyError):
                said = "said what is no verdict"
                found.append(failure(f"the verifier {said}"))
            if isinstance(said, str):
                self.stop()
                break
        return found

    def stop(self) -> None:
        """End the child and whatever is left of it."""
        if not self.lives:
            return
        self.lives = False
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(OSError):
            os.close(self._verdicts)
        self._folder.cleanup()

    def _answer(self, seconds: float) -> Any:
        """The JSON of the child's next line; a text says why there is none. Meanwhile it is sent what is left
        to send."""
        until = time.monotonic() + seconds
        assert self._process.stdin
        pipe = self._process.stdin.fileno()
        while b"\n" not in self._read:
            left = max(0, until - time.monotonic())
            ready, takes, _ = select.select([self._verdicts], [pipe] if self._unsent else [], [], left)
            if not ready and not takes:
                return self._why(until)
            if takes:
                try:
                    self._unsent = self._unsent[os.write(pipe, self._unsent[:MAX_LINE]) :]
                except BrokenPipeError:
                    self._unsent = b""
            if ready:
                part = os.read(self._verdicts, MAX_LINE)
                self._read += part
                if not part or len(self._read) > MAX_LINE:
                    return self._why(until)
        line, _, self._read = self._read.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            return "said what is no verdict"

    def _why(self, until: float) -> str:
        if time.monotonic() >= until:
            return TOO_LONG.removeprefix("the verifier ")
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed what it answers on"
        named = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"ended by {named}: it may have needed more than memoryMiB = {self._verifier.memory_mi_b}"


def _read(said: dict[str, Any]) -> Verdict:
    """A verdict of a child, which may say anything. Raises what reading does."""
    score, reason, failed = said["score"], said["reason"], said["failed"]
    if score is not None:
        score = float(score)
        if not 0 <= score <= 1:
            raise ValueError(score)
    return Verdict(score, str(reason)[:MAX_REASON], bool(failed))
