"""Runs a model's Python against the tests of a reference, each test in a confined process of its own.

References as the usual data have them: Python with asserts, one text or a list (MBPP, HumanEval, whose
`check(candidate)` needs the column `entry_point`); or {"inputs": [...], "outputs": [...]}, what programs read
and print (APPS, TACO, CodeContests), with "fn_name" what a function of that name takes and returns.

A test passes when it says so at its end in words that the model's code is not told. Code that looks for them
in its own process can find them; what a program must print, it cannot fake.
"""

import contextlib
import json
import os
import secrets
import select
import signal
import sys
import tempfile
import time
from typing import IO, Any, NamedTuple

from ixt_workloads.contract.verifiers import Verifier
from ixt_workloads.verify.checks import NO_ANSWER, code_of
from ixt_workloads.verify.confine import OUTPUT_BYTES, confine, die_with_parent, limit
from ixt_workloads.verify.samples import Sample, Verdict, failure

MOST_TESTS = 1000
_SHOWN = 120

_CALL = """
def _ixt_plain(value):
    return [_ixt_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
_ixt_found = (globals().get({name!r}) or getattr(Solution(), {name!r}))(*{arguments!r})
assert any(_ixt_plain(_ixt_found) == each for each in {accepted!r}), f"{name} returns {{_ixt_found!r}}"
"""


class Test(NamedTuple):
    """One test of a program."""

    code: str
    """Runs after the program; empty for a test of what it prints."""
    given: str = ""
    """What it reads."""
    printed: str | None = None
    """What it must print, but for white space at the ends of lines; None: anything."""


def check(verifier: Verifier, sample: Sample) -> Verdict:
    """The share of the tests that an answer's code passes."""
    try:
        tests = tests_of(sample.reference, sample.columns)
    except (ValueError, TypeError, KeyError) as error:
        return failure(f"its reference has no tests: {error}")
    code = code_of(verifier, sample)
    if code is None:
        return NO_ANSWER
    until = time.monotonic() + verifier.timeout_seconds
    passed, why = 0, ""
    for test in tests:
        said = _run(verifier, code, test, until)
        passed += not said
        why = why or said
        if time.monotonic() >= until:
            break
    said = f"passes {passed} of {len(tests)} tests: {why}"
    return Verdict(passed / len(tests), said if passed < len(tests) else "")


def tests_of(reference: Any, columns: dict[str, Any]) -> list[Test]:
    """The tests of a reference. Raises ValueError, TypeError or KeyError for what has none."""
    if isinstance(reference, str) and reference.lstrip().startswith(("{", "[")):
        # Else it is Python that begins with a list or a set.
        with contextlib.suppress(ValueError):
            reference = json.loads(reference)
    if isinstance(reference, dict):
        inputs, outputs, name = reference["inputs"], reference["outputs"], reference.get("fn_name")
        if name is not None and not str(name).isidentifier():
            raise ValueError("its fn_name is no name")
        pairs = list(zip(inputs, outputs, strict=True))
        found = [_called(name, *pair) if name else _printed(*pair) for pair in pairs]
    else:
        texts = reference if isinstance(reference, list) else [reference]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError("it is neither Python nor inputs and outputs")
        entry = columns.get("entry_point")
        end = f"\ncheck({entry})" if isinstance(entry, str) and entry.isidentifier() else ""
        found = [Test(text + end) for text in texts]
    if not found or len(found) > MOST_TESTS:
        raise ValueError(f"{len(found)} tests, must be 1 to {MOST_TESTS}")
    return found


def _called(name: str, arguments: Any, expected: Any) -> Test:
    arguments = arguments if isinstance(arguments, list) else [arguments]
    # Some of the data have what is returned in a list of one.
    accepted = [expected, *(expected if isinstance(expected, list) and len(expected) == 1 else [])]
    return Test(_CALL.format(name=name, arguments=arguments, accepted=accepted))


def _printed(given: Any, printed: Any) -> Test:
    return Test("", _lines(given), _lines(printed))


def _lines(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _run(verifier: Verifier, code: str, test: Test, until: float) -> str:
    """Why a test fails; empty where it passes."""
    left = until - time.monotonic()
    if left <= 0:
        return "no time is left"
    word = secrets.token_hex(8)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed:
        given.write(test.given.encode())
        given.seek(0)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            _become(verifier, f"{code}\n", test.code, word, given, printed, theirs)
        os.close(theirs)
        said = _said(ours, until)
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if said is None:
            return f"takes more than {verifier.timeout_seconds} s"
        if said != word:
            return said.removeprefix("!")[:_SHOWN] or "it ends before its test does"
        if test.printed is not None:
            printed.seek(0)
            text = printed.read(OUTPUT_BYTES).decode(errors="replace")
            if _trimmed(text) != _trimmed(test.printed):
                return f"prints {text.strip()[: _SHOWN // 2]!r}, not {test.printed.strip()[: _SHOWN // 2]!r}"
    return ""


def _trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _said(pipe: int, until: float) -> str | None:
    """What comes through a pipe until it is closed; None where the time ends before."""
    found = b""
    while (left := until - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            break
        part = os.read(pipe, 4096)
        found += part
        if not part or len(found) > 4096:
            return found.decode(errors="replace")
    return None


def _become(
    verifier: Verifier, code: str, test: str, word: str, given: IO[bytes], printed: IO[bytes], pipe: int
) -> None:
    """Turn this process into one that runs a program and its test and says the word if both end well."""
    try:
        die_with_parent()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, file in enumerate((given.fileno(), printed.fileno(), nothing)):
            os.dup2(file, number)
        os.dup2(pipe, 3)
        os.closerange(4, 65_536)
        limit(verifier.memory_mi_b * 2**20, verifier.timeout_seconds)
        confine(threads=False)
        sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
        sys.argv = ["answer.py"]
        said = _executed(code, test)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - this process has nobody else to tell
        said = f"{type(error).__name__}: {error}"
    os.write(3, (f"!{said}" if said else word).encode(errors="replace")[:1024])
    os._exit(0)


def _executed(code: str, test: str) -> str:
    """Why a program or its test fails."""
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(code, "answer.py", "exec"), names)  # noqa: S102 - what this process is for
    except SystemExit as end:
        if test or end.code:
            return f"it exits with {end.code}"
    except BaseException as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    try:
        exec(compile(test, "test.py", "exec"), names)  # noqa: S102
    except AssertionError as error:
        return f"a test fails: {str(error) or test.strip()}"
    except BaseException as error:  # noqa: BLE001
        return f"its test raises {type(error).__name__}: {error}"
    return ""
