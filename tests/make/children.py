"""Children whose processes are small programs: what a platform must run, without a step's weight.

Each program is Python with `env`, `result`, `progress`, `serve`, `wait` and `stopped` at hand (see PREAMBLE).
"""

from typing import Any

from ixt_operator.planner.child import Child
from ixt_workloads.contract.kinds import Role

PREAMBLE = """
import http.server, json, os, signal, sys, threading, time
env = os.environ

def result(**fields):
    open(env["IXT_RESULT"], "w").write(json.dumps({"outcome": "Committed", **fields}))

def answering(port, status, body=b""):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *arguments):
            pass
    return http.server.HTTPServer((env["IXT_HOST"], int(env[port])), Handler)

def progress(**fields):
    server = answering("IXT_PORT_PROGRESS", 200, json.dumps(fields).encode())
    threading.Thread(target=server.serve_forever, daemon=True).start()

def serve(status=200):
    answering("IXT_PORT_HTTP", status).serve_forever()

def wait():
    signal.pause()

def stopped(then):
    signal.signal(signal.SIGTERM, lambda *arguments: then())
"""

WAIT = "wait()"
SUCCEED = "result(message='done')"


def tasks(name: str, program: str, **fields: Any) -> Child:
    """A child that runs to its end; every index runs the program."""
    return _child(name, program, {"role": Role.WORKER, "ports": {"progress": 8080}, **fields})


def server(name: str, program: str, **fields: Any) -> Child:
    """A server, ready when its port `http` answers /health with 200."""
    values = {
        "kind": "Annotate",
        "server": True,
        "role": Role.JUDGE,
        "ports": {"http": 8000},
        "ready_path": "/health",
        "ready_seconds": 60,
        **fields,
    }
    return _child(name, program, values)


def _child(name: str, program: str, fields: dict[str, Any]) -> Child:
    values = {
        "kind": name.title(),
        "stage": "stage",
        "key": "0" * 32,
        "attempt": 0,
        "grace_seconds": 10,
        **fields,
    }
    return Child(name=name, argv=("python", "-c", f"{PREAMBLE}\n{program}"), **values)
