"""The judge's door: an ASGI middleware in vLLM's server that lets through whoever has the run's API key.

vLLM's own key guards /v1 and a few paths more, but not for instance /invocations, which generates as well.
Here all is shut but what probes and Prometheus read, of which neither has a key.
"""

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

API_KEY = "IXT_API_KEY"
"""Variable with the key. Without one, as for a server that a person starts by hand, nobody is asked."""

OPEN = ("/health", "/metrics")

_REFUSAL = b'{"error":{"message":"no valid API key: this judge answers the steps of its run alone"}}'

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """Answers 401 in place of the server to whoever has no key."""

    def __init__(self, app: App) -> None:
        self._app = app
        key = os.environ.get(API_KEY)
        self._wanted = f"bearer {key}".encode() if key else b""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "lifespan" or not self._wanted or self._open(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _open(self, scope: Message) -> bool:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN:
            return True
        shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = shown.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + token.strip(), self._wanted)
