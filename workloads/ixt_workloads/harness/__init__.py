"""Evaluation by tasks of EleutherAI's lm-evaluation-harness, asked under the prefixes of the conditioning
contract.

`tasks.py` finds tasks, refuses those that cannot be asked, and pins them; `sandbox.py` keeps code away from
this process; `asked.py` is the model as the harness knows it, `engines.py` what it is computed by;
`scores.py` asks all tasks under all prefixes, item by item.
"""

HARNESS = "harness.json"
"""File of an evaluation with its scores and single items."""
