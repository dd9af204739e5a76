"""The steps of a run, and what the operator shares with them."""

import os
import signal

__version__ = "0.1.0"
"""Version of ixt: operator and workloads are released together. As in pyproject.toml."""

if os.getpid() == 1:
    # Linux keeps from pid 1 what it has no handler for. A pod that is told to stop while its first process
    # imports torch would hold its machine to the end of its grace: it ends at once, until `frame.main` knows
    # better.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
