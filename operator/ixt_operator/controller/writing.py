"""What a look tells: the status of its run, then the events that say what changed in it."""

import hashlib
import logging
import time
from collections.abc import Iterable

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import EVENTS, RUNS, ApiError, Client, Object
from ixt_operator.api.status import RunStatus, rfc3339
from ixt_operator.planner.events import Event, events
from ixt_operator.planner.retry import Cause
from ixt_workloads.contract.graph import OfNode

log = logging.getLogger("ixt.run")


async def tell(
    client: Client,
    cache: Cache,
    manifest: Object,
    previous: RunStatus | None,
    status: RunStatus,
    failures: Iterable[tuple[OfNode, Cause]],
) -> Object:
    """Write a run's status if it says something new, and post what changed; the run as it is then."""
    if status == previous:
        return manifest
    # A write of the status leaves the rest of the object as it is: the spec need not travel.
    value = status.model_dump(mode="json", exclude_none=True)
    written = await client.replace(
        {**{name: manifest[name] for name in ("apiVersion", "kind", "metadata")}, "status": value},
        "status",
    )
    cache.put(RUNS, written)
    for event in events(previous, status, failures):
        await _post(client, manifest, event)
    return written


async def _post(client: Client, manifest: Object, event: Event) -> None:
    """Post an event once: its name comes from what it says, so that a repeated post is none."""
    metadata = manifest["metadata"]
    said = f"{metadata['uid']}/{metadata.get('generation')}/{event.reason}/{event.message}"
    now = rfc3339(time.time())
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
