"""A double of the Hugging Face hub's API, as far as huggingface_hub needs it to make a repository and to
upload a folder without Xet: small files in the commit, large ones by Git LFS. What it does was read in the
client's source; the real hub was never asked."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huggingface_hub import constants

TOKEN = "hf_only_for_tests"
SMALL = 10_000
"""Bytes of a file that stands in the commit itself."""


@dataclass
class Hub:
    """What the double has."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def reached_by(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the client in this process find it, with its token and nothing of the user's own."""
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a request of somebody with the token."""
        parts = path.partition("?")[0].strip("/").split("/")
        if method == "PUT" and parts[0] == "upload":
            self.objects[parts[1]] = body
            return 200, {}
        if parts[-1] == "batch":
            return 200, {
                "transfer": "basic",
                "objects": [self._object(o) for o in json.loads(body)["objects"]],
            }
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.repositories:
                return 409, {"error": "You already created this model repo"}
            self.repositories[name] = {".gitattributes": b""}
            self.private |= {name} if asked.get("visibility") == "private" else set()
            return 200, {"url": f"{self.url}/{name}"}
        if parts == ["api", "validate-yaml"]:
            return 200, {"errors": [], "warnings": []}
        name = "/".join(parts[2:4])
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        return self._of_repository(parts[4] if len(parts) > 4 else "", name, body)

    def _of_repository(self, verb: str, name: str, body: bytes) -> tuple[int, Any]:
        files = self.repositories[name]
        if verb == "preupload":
            asked = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "regular" if file["size"] < SMALL else "lfs",
                    "shouldIgnore": False,
                }
                for file in asked
            ]
            return 200, {"files": modes}
        if verb == "tree":
            listed = [
                {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
                for path, data in files.items()
            ]
            return 200, listed
        if verb == "commit":
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
            commit = {"commitUrl": f"{self.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40}
            return 200, {**commit, "success": True}
        siblings = [{"rfilename": path} for path in files]
        return 200, {"id": name, "sha": "0" * 40, "siblings": siblings, "private": name in self.private}

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        upload = {"upload": {"href": f"{self.url}/upload/{asked['oid']}"}}
        return {**asked, "actions": upload}


@contextmanager
def hub() -> Iterator[Hub]:
    """The double, on loopback."""
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            allowed = self.headers.get("authorization") == f"Bearer {TOKEN}" or self.path.startswith(
                "/upload/"
            )
            code, value = (
                found.answer(self.command, self.path, body) if allowed else (401, {"error": "Invalid token"})
            )
            data = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            if code == 404:
                self.send_header("x-error-code", "RepoNotFound")
            if self.path.startswith("/upload/"):
                self.send_header("etag", hashlib.sha256(body).hexdigest())
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = _any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
