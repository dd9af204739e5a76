"""Waits until a judge has answered all requests. Its pod runs this before the judge is told to stop.

Meanwhile the judge goes on as before. Its Service has dropped it, so clients turn to others; those that
have not noticed yet are still answered. vLLM's own draining (--shutdown-timeout) answers new requests with
HTTP 500 while its health check says 200: clients would take that for a judge that fails on their documents.
"""

import os
import sys
import time
import urllib.request

from ixt_workloads.steps.annotate.wire import gauges_of

POLL_SECONDS = 0.5
QUIET_POLLS = 4
"""Polls in a row without requests after which a judge is done: between two requests one may see none."""


def drain(url: str, seconds: float) -> bool:
    """Wait, at most so long, until a server has no requests; whether it has none. One that does not answer
    counts as having none."""
    deadline, quiet = time.monotonic() + seconds, 0
    while quiet < QUIET_POLLS and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:  # noqa: S310 - our own server
                gauges = gauges_of(answer.read().decode())
        except OSError:
            return True
        busy = gauges.get("num_requests_running", 0) + gauges.get("num_requests_waiting", 0)
        quiet = 0 if busy else quiet + 1
        time.sleep(POLL_SECONDS)
    return quiet >= QUIET_POLLS


if __name__ == "__main__":
    drain(f"http://127.0.0.1:{os.environ['IXT_PORT_HTTP']}", float(sys.argv[1]))
