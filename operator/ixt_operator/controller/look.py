"""One look at a run on a cluster, from the cache to the write: what the operator does, in its order."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import RUNS, ApiError, Client, Object
from ixt_operator.adapters.kubernetes.platform import KubernetesPlatform, Refused
from ixt_operator.adapters.port import carry_out
from ixt_operator.api.status import RunStatus, unix
from ixt_operator.controller import exporter
from ixt_operator.controller.queue import Behind, Retry
from ixt_operator.controller.references import NotAccepted, resolved
from ixt_operator.controller.writing import tell
from ixt_operator.planner.describe import unaccepted
from ixt_operator.planner.plan import plan
from ixt_workloads.contract.results import Progress
from ixt_workloads.contract.versions import read_known

log = logging.getLogger("ixt.run")


class RunName(NamedTuple):
    """A run."""

    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Object) -> "RunName":
        """The key of a run."""
        return cls(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


class Runs:
    """Looks at runs."""

    def __init__(self, client: Client, cache: Cache, progress: Mapping[str, Progress]) -> None:
        self._client = client
        self._cache = cache
        self._progress = progress

    async def look(self, key: RunName) -> float | Behind | None:
        """Look at a run and do what comes next; answers when to look again.

        Raises Retry when the API server did not play along: all that was done is done again, to no harm.
        """
        manifest = self._cache.get(RUNS, *key)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return None
        started, outcome = time.monotonic(), "error"
        try:
            again = await self._look(key, manifest)
            outcome = "ok"
        except ApiError as error:
            if error.status in (404, 409):
                with suppress(ApiError):
                    await self._newer(key, manifest)
            if error.status == 409:
                outcome = "conflict"
            else:
                log.warning("%s/%s: %s", *key, error.message)
            raise Retry(error.message, error.retry_after) from None
        except Retry as refused:
            log.warning("%s/%s: %s", *key, refused)
            raise
        except Exception as error:
            # A fault of ours must not end the operator: other runs go on.
            log.exception("%s/%s: unforeseen error", *key)
            raise Retry(str(error)) from None
        else:
            return again
        finally:
            exporter.reconciles.labels(outcome).inc()
            exporter.reconcile_seconds.observe(time.monotonic() - started)

    async def _look(self, key: RunName, manifest: Object) -> float | Behind | None:
        # The status says what the last look saw. A run that ended goes when its time is over.
        previous, now = _status(manifest), time.time()
        generation = manifest["metadata"].get("generation", 0)
        settled = previous if previous and previous.settled(generation) else None
        left = _time_left(manifest, settled, now)
        if left is not None and left <= 0:
            uid, version = (manifest["metadata"][name] for name in ("uid", "resourceVersion"))
            await self._client.delete(RUNS, *key, uid=uid, version=version)
            return None

        # What it names must be there, or the run waits and says for what.
        try:
            run, runtime = await resolved(manifest, self._client, self._cache)
        except NotAccepted as found:
            if settled:
                return left
            status = unaccepted(previous, found.reason, str(found), generation, now)
            await tell(self._client, self._cache, manifest, previous, status, ())
            return found.again

        # The plan is made from what the cache says; what is dangerous from what the API server says.
        platform = KubernetesPlatform(self._client, self._cache, run, runtime, self._progress)
        observed = await platform.observe()
        moves = plan(run, runtime, observed, previous, now)
        if moves.needs_certainty:
            newer = await self._newer(key, manifest)
            if newer is None or _said_of(newer) != _said_of(manifest):
                return 0.0
            manifest, observed = newer, await platform.observe(live=True)
            moves = plan(run, runtime, observed, previous, now)

        # What was seen is told, then what is planned is done. What is refused is told, and tried again later.
        if moves.tells:
            manifest = await tell(self._client, self._cache, manifest, previous, moves.status, moves.failures)
        try:
            await carry_out(platform, moves)
        except (Refused, ApiError) as error:
            status = plan(run, runtime, observed, previous, now, refused=str(error)).status
            await tell(self._client, self._cache, manifest, _status(manifest), status, moves.failures)
            if isinstance(error, ApiError):
                raise
            raise Retry(str(error)) from None

        # First statuses come after the first Jobs of others, when many runs are created at once.
        if moves.create and previous is None:
            return Behind()
        due = (moves.requeue_after, platform.again(), _time_left(manifest, moves.status, now))
        return min((seconds for seconds in due if seconds is not None), default=None)

    async def _newer(self, key: RunName, manifest: Object) -> Object | None:
        """A run as it is: the watch tells late what changed, and after a gap not at all what is gone. None if
        it is gone, or on its way out."""
        found = await self._client.get(RUNS, *key)
        if found is None or found["metadata"]["uid"] != manifest["metadata"]["uid"]:
            self._cache.drop(RUNS, manifest, successor=found)
        if found is None:
            return None
        self._cache.put(RUNS, found)
        if "deletionTimestamp" in found["metadata"]:
            return None
        return self._cache.get(RUNS, *key)


def _status(manifest: Object) -> RunStatus | None:
    """The status as last written; None before the first."""
    return read_known(RunStatus, manifest["status"]) if manifest.get("status") else None


def _time_left(manifest: Object, status: RunStatus | None, now: float) -> float | None:
    """Seconds until a finished run is to be deleted, 0 or less once it is; None for one that stays or has not
    finished."""
    ttl = manifest["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or status is None or status.completion_time is None:
        return None
    return unix(status.completion_time) + float(ttl) - now


def _said_of(manifest: Object) -> tuple[Any, ...]:
    """What a look at a run rests on. Labels and annotations are anybody's to change, at any rate."""
    metadata = manifest["metadata"]
    return metadata["uid"], metadata.get("generation"), manifest.get("status")
