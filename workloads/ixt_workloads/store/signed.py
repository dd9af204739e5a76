"""A store whose documents carry an HMAC: what somebody without the key wrote there counts as absent.

Documents are the manifests of artifacts, and what is JSON in claims/, runs/ and work/: they say, directly or
by hashes of contents, all that a run takes from its storage. Whoever lacks the key can delete, not deceive.
"""

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ixt_workloads.contract.foreign import json_of
from ixt_workloads.store.base import MAX_DOCUMENT, ObjectInfo, Store
from ixt_workloads.store.errors import FileTooLarge, NotFound, not_there

log = logging.getLogger("ixt.store")

SIGNATURE = "signature"
LEAST_KEY = 32
"""Characters of a key."""

_DOCUMENT = re.compile(r"(artifacts/[^/]+/manifest|(claims|runs|work)/.+)\.json")
_LISTED = re.compile(r"(claims|runs|work)/.+\.json")
"""Documents that are looked for by listing."""


class SignedStore(Store):
    """Another store, with signed documents. An object of JSON is signed at its path, so that none can be put
    in another's place."""

    signs = True

    def __init__(self, inner: Store, key: str) -> None:
        self.uri, self.largest = inner.uri, inner.largest
        self._inner = inner
        self._key = key.encode()

    def get(self, path: str, most: int = MAX_DOCUMENT) -> bytes:
        """Content of a file. Raises NotFound for a document that is not signed with the key."""
        content = self._inner.get(path, most)
        if _DOCUMENT.fullmatch(path) and not self._is_signed(path, content):
            log.warning("%s/%s is not signed with this run's key: it counts as absent", self.uri, path)
            raise not_there(f"{self.uri}/{path}")
        return content

    def open_local(self, path: str) -> Path:
        return self._inner.open_local(path)

    def put_new(self, path: str, data: bytes | Path) -> bool:
        if not _DOCUMENT.fullmatch(path):
            return self._inner.put_new(path, data)
        signed = self._signed(path, data)
        if self._inner.put_new(path, signed):
            return True
        if self.exists(path):
            return False
        self._inner.put(path, signed)  # over one that counts as absent
        return True

    def put(self, path: str, data: bytes | Path) -> None:
        self._inner.put(path, self._signed(path, data) if _DOCUMENT.fullmatch(path) else data)

    def exists(self, path: str) -> bool:
        if not _DOCUMENT.fullmatch(path):
            return self._inner.exists(path)
        try:
            self.get(path)
        except (NotFound, FileTooLarge):
            return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for info in self._inner.list(prefix):
            if not _LISTED.fullmatch(info.path) or self.exists(info.path):
                yield info

    def sha256(self, path: str) -> str:
        return self._inner.sha256(path)

    def delete(self, path: str) -> None:
        self._inner.delete(path)

    def delete_tree(self, prefix: str) -> None:
        self._inner.delete_tree(prefix)

    def local_dir(self, path: str) -> Path:
        return self._inner.local_dir(path)

    def upload_dir(self, path: str) -> None:
        self._inner.upload_dir(path)

    def download_dir(self, path: str) -> None:
        self._inner.download_dir(path)

    def _signed(self, path: str, data: bytes | Path) -> bytes:
        value: dict[str, Any] = json.loads(data.read_bytes() if isinstance(data, Path) else data)
        return json.dumps({**value, SIGNATURE: self._signature(path, value)}, indent=1).encode()

    def _is_signed(self, path: str, content: bytes) -> bool:
        try:
            json_of(content, MAX_DOCUMENT)  # not too deep
            value = json.loads(content)
            given = value.pop(SIGNATURE)
        except (ValueError, LookupError, TypeError, AttributeError):
            return False
        wanted = self._signature(path, value)
        return isinstance(given, str) and hmac.compare_digest(given.encode(), wanted.encode())

    def _signature(self, path: str, value: dict[str, Any]) -> str:
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hmac.new(self._key, f"{path}\n{canonical}".encode(), hashlib.sha256).hexdigest()
