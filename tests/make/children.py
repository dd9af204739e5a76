"""Children whose processes are small programs: what a platform must run, without a step's weight.

Each program is Python with `env`, `result`, `progress`, `serve`, `wait` and `stopped` at hand (see PREAMBLE).
"""

from typing import Any

from ixt_operator.api.runtime import Role
from ixt_operator.planner.child import Child, ChildKind

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
    """A child of kind Tasks; every index runs the program."""
    return _child(
        name, ChildKind.TASKS, program, {"role": Role.WORKER, "ports": {"progress": 8080}, **fields}
    )


def server(name: str, program: str, **fields: Any) -> Child:
    """A child of kind Server, ready when its port `http` answers /health with 200."""
    values = {
        "role": Role.JUDGE,
        "ports": {"http": 8000},
        "ready_path": "/health",
        "ready_seconds": 60,
        **fields,
    }
    return _child(name, ChildKind.SERVER, program, values)


def _child(name: str, kind: ChildKind, program: str, fields: dict[str, Any]) -> Child:
    values = {"node": f"stage/{name}", "key": "0" * 32, "attempt": 0, "grace_seconds": 10, **fields}
    return Child(name=name, kind=kind, argv=("python", "-c", f"{PREAMBLE}\n{program}"), **values)
