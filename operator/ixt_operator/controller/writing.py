"""What a look tells: the status of its run, then the events that say what changed in it."""

import hashlib
import logging
from typing import Any

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import EVENTS, RUNS, ApiError, Client, Object
from ixt_operator.api.status import RunStatus, rfc3339
from ixt_operator.planner.events import Event, News, events

log = logging.getLogger("ixt.run")

ONCE = ("AttemptFailed", "StepComplete", "StepCached")
"""Reasons of events whose messages name an attempt's pod or a key. After an edit steps are unknown until
Inventory has answered, and look as if they failed or completed anew."""


async def tell(
    client: Client,
    cache: Cache,
    manifest: Object,
    previous: RunStatus,
    status: RunStatus,
    news: News,
) -> Object:
    """Write a run's status if it says something new, and post and log what changed; the run as it is then."""
    if status == previous:
        return manifest
    # A write of the status leaves the rest of the object as it is: the spec need not travel.
    value = stored(status)
    written = await client.replace(
        {**{name: manifest[name] for name in ("apiVersion", "kind", "metadata")}, "status": value},
        "status",
    )
    cache.put(RUNS, written)
    for event in events(previous, status, news):
        metadata = manifest["metadata"]
        log.info("%s/%s: %s: %s", metadata["namespace"], metadata["name"], event.reason, event.message)
        await _post(client, manifest, event)
    return written


def stored(status: RunStatus) -> Object:
    """A status as it is stored: fields that say nothing are left out, since `kubectl describe` has a line for
    each. Conditions are whole, as of any kind."""
    found: Object = _without_empty(status.model_dump(mode="json", exclude_none=True))
    conditions = [each.model_dump(mode="json") for each in status.conditions]
    return found | ({"conditions": conditions} if conditions else {})


def _without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _without_empty(item) for name, item in value.items()}
    return {name: item for name, item in kept.items() if item not in ("", [], {}) and item is not False}


async def _post(client: Client, manifest: Object, event: Event) -> None:
    """Post an event once: its name comes from what it says, so that a repeated post is none. What is about an
    attempt or a key is said once for good, anything else once a generation of the run."""
    metadata = manifest["metadata"]
    generation = "" if event.reason in ONCE else metadata.get("generation")
    said = f"{metadata['uid']}/{generation}/{event.reason}/{event.message}"
    now = rfc3339(client.now())
    body = {
        "apiVersion": EVENTS.group_version,
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:200]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": RUNS.group_version,
            "kind": "IXTRun",
            **{name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
        },
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "message": event.message[:1024],
        "source": {"component": "ixt-operator"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        await client.create(body)
    except ApiError as error:
        log.warning("%s/%s: an event was not posted: %s", metadata["namespace"], metadata["name"], error)
