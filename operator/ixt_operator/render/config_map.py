"""Documents in ConfigMaps, compressed when they are large: an object holds 1 MiB. Pure."""

import base64
import gzip
from collections.abc import Mapping
from typing import Any

from ixt_workloads.contract.foreign import gunzipped

READABLE_BYTES = 256 * 1024
"""Larger documents are compressed."""


def packed(name: str, text: str) -> dict[str, dict[str, str]]:
    """The fields of a ConfigMap that hold a document."""
    if len(text.encode()) <= READABLE_BYTES:
        return {"data": {name: text}}
    return {"binaryData": {name: base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()}}


def unpacked(config: Mapping[str, Any], name: str, most: int) -> str:
    """A document of a ConfigMap; empty if it has none. Raises ValueError for one that has more than `most`
    bytes or cannot be read."""
    found = config.get("binaryData", {}).get(name)
    if found is None:
        return str(config.get("data", {}).get(name, ""))
    return gunzipped(base64.b64decode(found), most).decode()
