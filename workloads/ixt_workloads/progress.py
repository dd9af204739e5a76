"""Progress of a running step over HTTP: /progress for people and the operator, /metrics for Prometheus."""

import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ixt_workloads.contract import metrics as names
from ixt_workloads.contract.results import Progress

WINDOW_SECONDS = 30.0
"""Rates are averaged over this long, so that an ETA does not jump with every shard."""


class Reporter:
    """Holds the latest progress of one process. Thread-safe. Without a port it serves nothing."""

    def __init__(self, host: str = "127.0.0.1", port: int | None = None) -> None:
        self._lock = threading.Lock()
        self._progress = Progress()
        self._window: deque[tuple[float, float]] = deque()
        self._registry = CollectorRegistry()
        self._done = Gauge(*names.STEP_DONE, registry=self._registry)
        self._total = Gauge(*names.STEP_TOTAL, registry=self._registry)
        self._metric = Gauge(*names.STEP_METRIC, registry=self._registry)
        self._tokens = Counter(*names.STEP_TOKENS, registry=self._registry)
        self._flops = Counter(*names.STEP_FLOPS, registry=self._registry)
        self._server = None if port is None else _serve(self, host, port)

    @classmethod
    def from_environment(cls) -> Self:
        """A reporter on $IXT_PORT_PROGRESS of $IXT_HOST; without a port it serves nothing."""
        port = os.environ.get("IXT_PORT_PROGRESS")
        return cls(os.environ.get("IXT_HOST", "127.0.0.1"), int(port) if port else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            # In the background: the server looks only every 0.2 s whether it shall stop.
            threading.Thread(target=_close, args=(self._server,), daemon=True).start()

    def update(
        self,
        done: float,
        total: float | None,
        unit: str,
        message: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Set the progress; the rate is worked out over the last half minute."""
        now = time.monotonic()
        with self._lock:
            self._window.append((now, done))
            while len(self._window) > 2 and now - self._window[0][0] > WINDOW_SECONDS:
                self._window.popleft()
            first_time, first_done = self._window[0]
            rate = max(0.0, done - first_done) / (now - first_time) if now > first_time else None
            kept = self._progress.metrics if metrics is None else dict(metrics)
            self._progress = Progress(
                done=done, total=total, unit=unit, per_second=rate, message=message[:512], metrics=kept
            )
        self._done.labels(unit).set(done)
        self._total.labels(unit).set(total or 0)
        for name, value in kept.items():
            self._metric.labels(name).set(value)

    def count_tokens(self, kind: str, number: int) -> None:
        """Add tokens of a kind: prompt, cached, reasoning, feedback, wasted, document ..."""
        self._tokens.labels(kind).inc(number)

    def count_flops(self, purpose: str, number: float) -> None:
        """Add FLOPs spent for a purpose: annotation, evaluation, training."""
        self._flops.labels(purpose).inc(number)

    def progress(self) -> Progress:
        """The latest progress."""
        with self._lock:
            return self._progress

    def metrics(self) -> bytes:
        """The Prometheus exposition."""
        return generate_latest(self._registry)


def _close(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


def _serve(reporter: Reporter, host: str, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/progress":
                kind, body = "application/json", reporter.progress().model_dump_json().encode()
            elif self.path == "/metrics":
                kind, body = CONTENT_TYPE_LATEST, reporter.metrics()
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.2,), name="progress", daemon=True).start()
    return server
