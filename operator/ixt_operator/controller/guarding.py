"""Who may read /metrics over TLS: whoever the API server knows, and lets `get` the path /metrics."""

import hashlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from ixt_operator.adapters.kubernetes.client import ApiError, Client, Object, Resource

log = logging.getLogger("ixt.metrics")

KNOWN_SECONDS = 60.0
"""For so long an answer of the API server about a token holds."""
MOST_TOKENS = 256

TOKEN_REVIEWS = Resource("authentication.k8s.io/v1", "tokenreviews")
ACCESS_REVIEWS = Resource("authorization.k8s.io/v1", "subjectaccessreviews")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """Lets requests through whose bearer token the API server knows and lets read their path."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[tuple[bytes, str], tuple[float, int]] = {}
        """HTTP's status for a token's hash and a path, and until when it holds."""

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer 401, 403, or what the handler answers; 503 while the API server does not."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            status = 401
        else:
            status = await self._status(token.strip(), request.path)
        if status == 200:
            return await handler(request)
        return web.Response(status=status, headers={"WWW-Authenticate": "Bearer"} if status == 401 else None)

    async def _status(self, token: str, path: str) -> int:
        key = hashlib.sha256(token.encode(errors="replace")).digest(), path
        until, status = self._known.get(key, (0.0, 0))
        if self._clock() < until:
            return status
        try:
            status = await self._asked(token, path)
        except ApiError as error:
            log.warning("who may read %s cannot be asked: %s", path, error)
            return 503
        if len(self._known) >= MOST_TOKENS:
            self._known.clear()
        self._known[key] = self._clock() + KNOWN_SECONDS, status
        return status

    async def _asked(self, token: str, path: str) -> int:
        found = await self._review(TOKEN_REVIEWS, "TokenReview", {"token": token})
        if not found.get("authenticated"):
            return 401
        user = found.get("user", {})
        about = {name: user[name] for name in ("uid", "groups", "extra") if user.get(name)}
        asked = {
            "user": user.get("username", ""),
            **about,
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        allowed = (await self._review(ACCESS_REVIEWS, "SubjectAccessReview", asked)).get("allowed")
        return 200 if allowed else 403

    async def _review(self, resource: Resource, kind: str, spec: Object) -> Object:
        body = {"apiVersion": resource.group_version, "kind": kind, "metadata": {}, "spec": spec}
        answer = await self._client.request("POST", resource.path(), body)
        found: Object = answer.get("status", {})
        return found


class Certificate:
    """A certificate that its files may replace: tls.crt and tls.key of a folder, as a Secret is mounted."""

    def __init__(self, folder: Path) -> None:
        self._files = (folder / "tls.crt", folder / "tls.key")
        self._read: tuple[list[float], ssl.SSLContext] | None = None
        """When the files had changed, and what was made of them then."""

    def context(self) -> ssl.SSLContext:
        """What a server takes. Connections get the certificate that is there when they begin. Raises OSError
        for one that cannot be read."""
        changed_at = [file.stat().st_mtime for file in self._files]
        if self._read is None or self._read[0] != changed_at:
            new = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            new.load_cert_chain(*self._files)
            new.sni_callback = self._take_newest
            self._read = changed_at, new
        return self._read[1]

    def _take_newest(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        try:
            connection.context = self.context()
        except OSError as error:  # of which ssl.SSLError is one
            log.warning("the certificate cannot be read anew: %s", error)
