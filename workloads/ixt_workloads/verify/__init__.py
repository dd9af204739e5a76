"""Verifiers: whether a model's answer to a prompt is right, said by processes that cannot harm the step.

`pool.py` is what a step uses; `child.py` is the program of its children; `checks.py`, `code.py` and
`function.py` are what they do, `confine.py` what they may not do.
"""

from ixt_workloads.verify.pool import Verifying, verify
from ixt_workloads.verify.samples import Sample, Verdict

__all__ = ["Sample", "Verdict", "Verifying", "verify"]
