"""Waits until a judge has answered what it was asked: what its pod does before the judge is told to stop.

Meanwhile the judge goes on as before. Its Service has dropped it, so clients turn to others; one that does
not know yet is answered. vLLM's own draining (--shutdown-timeout) answers new requests with HTTP 500 while
its health check says 200: clients would take that for a judge that fails on their documents.
"""

import os
import sys
import time
import urllib.request

from ixt_workloads.steps.annotate.wire import gauges_of

POLL_SECONDS = 0.5
QUIET_POLLS = 4
"""A judge that has no requests at so many polls in a row is done: between two answers there may be none."""


def drain(url: str, seconds: float) -> bool:
    """Wait until nobody waits for the server's answers, at most so long; whether that was reached. One that
    does not answer has nobody who waits."""
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
