"""The program of a child that verifies: `python -m ixt_workloads.verify.child`.

It reads lines of JSON from standard input, the verifier first and then samples, and answers each with a line
on the descriptor that its first argument names: {"problem": ""} or what is wrong with the verifier, then
verdicts. Whatever the verifier's code prints goes nowhere.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import IO

from ixt_workloads.contract.verifiers import Verifier, VerifierType
from ixt_workloads.verify import code, confine, function
from ixt_workloads.verify.checks import CHECKS
from ixt_workloads.verify.samples import RAISED, Sample, Verdict, failure


def main() -> None:
    """Answer until standard input ends."""
    with os.fdopen(os.dup(0), "rb") as samples, os.fdopen(int(sys.argv[1]), "wb", buffering=0) as verdicts:
        _silence()
        confine.die_with_parent()
        verifier = Verifier.model_validate_json(samples.readline())
        try:
            check = _check(verifier)
        except (function.UnusableError, ImportError, OSError) as error:
            _say(verdicts, {"problem": str(error)})
            return
        _say(verdicts, {"problem": ""})
        for line in samples:
            _say(verdicts, _verdict(check, Sample.from_json(line))._asdict())


def _check(verifier: Verifier) -> Callable[[Sample], Verdict]:
    memory = verifier.memory_mi_b * 2**20
    if verifier.type is VerifierType.CODE_TESTS:
        # Each test is confined in a process that this one forks: this one runs nothing of others.
        return partial(code.check, verifier)
    # No limit of its processor time, which counts over samples: the parent watches the clock.
    confine.limit(memory, _FOREVER)
    if verifier.type is VerifierType.FUNCTION:
        found = function.loaded(verifier)
        confine.confine(threads=True)
        return found
    if verifier.type is VerifierType.MATH:
        import math_verify  # noqa: F401 - so that a missing library is told at the start
    return partial(CHECKS[verifier.type], verifier)


_FOREVER = 10**9


def _verdict(check: Callable[[Sample], Verdict], sample: Sample) -> Verdict:
    try:
        return check(sample)
    except BaseException as error:  # noqa: BLE001 - whatever a verifier raises, also SystemExit
        return failure(f"{RAISED} {type(error).__name__}: {error}")


def _silence() -> None:
    """Standard input, output and error lead nowhere."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.close(nothing)


def _say(verdicts: IO[bytes], value: object) -> None:
    verdicts.write(json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    main()
