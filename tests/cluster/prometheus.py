"""A Prometheus of the tests, on loopback: it scrapes, evaluates rules, and keeps what it finds."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grafana.prometheus import Source

from cluster import binaries

PATIENCE_SECONDS = 60
ADDRESS = re.compile(r'msg="Listening on" .*address=(\S+)')


class PrometheusError(RuntimeError):
    """Prometheus did not start; the message has what it wrote."""


@contextmanager
def prometheus(
    folder: Path, configuration: Mapping[str, Any], data: Path | None = None, *, scrape_interval: float = 15
) -> Iterator[Source]:
    """A Prometheus with this configuration and an interval of scrapes in seconds, until the end of the block.

    `folder` gets its files, and has those that the configuration names; `data` is where its series are, those
    of earlier ones too, and stay. Raises PrometheusError.
    """
    file, log = folder / "prometheus.yaml", folder / "prometheus.log"
    file.write_text(json.dumps({**configuration, "global": {"scrape_interval": f"{scrape_interval:g}s"}}))
    command = [
        *("setpriv", "--pdeathsig", "KILL", str(binaries.path("prometheus"))),
        *(f"--config.file={file}", f"--storage.tsdb.path={data or folder / 'data'}"),
        *("--storage.tsdb.retention.time=10y", "--web.listen-address=127.0.0.1:0"),
    ]
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=written, stderr=written, start_new_session=True
        )
    try:
        yield Source(f"http://{_address(process, log)}", scrape_interval)
    finally:
        # It writes down what it has, so that another one finds it in `data`.
        process.send_signal(signal.SIGTERM)
        process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where it listens, once it can be asked."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        listens = ADDRESS.search(text)
        if listens and "Server is ready to receive web requests" in text:
            return listens[1]
        time.sleep(0.05)
    raise PrometheusError(log.read_text(errors="replace")[-4000:])
