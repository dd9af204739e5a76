"""One look at a run on a cluster, from the cache to the write: what the operator does, in its order."""

import logging
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import RUNS, ApiError, Client, Object
from ixt_operator.adapters.kubernetes.explaining import Explainer
from ixt_operator.adapters.kubernetes.platform import KubernetesPlatform, Rendered
from ixt_operator.adapters.port import carry_out
from ixt_operator.api.meta import ObjectMeta
from ixt_operator.api.run import KEEP_CHILDREN, MANAGER
from ixt_operator.api.status import Reason, RunStatus, unix
from ixt_operator.controller import exporter
from ixt_operator.controller.queue import UNFORESEEN_SECONDS, Behind, Retry
from ixt_operator.controller.references import NotAccepted
from ixt_operator.controller.started import Starts
from ixt_operator.controller.writing import tell
from ixt_operator.planner.describe import noted
from ixt_operator.planner.now import Bounds, Life, running
from ixt_operator.planner.observed import Observed
from ixt_operator.planner.plan import Plan, plan, settled
from ixt_operator.planner.stalled import Trouble, stalled
from ixt_operator.render.network import Network
from ixt_operator.render.render import render
from ixt_workloads.contract.results import Progress
from ixt_workloads.contract.versions import read_known

log = logging.getLogger("ixt.run")


ORPHAN = "orphan"
"""The finalizer of an object that is deleted with `--cascade=orphan`."""

Decide = Callable[[Observed, Mapping[str, str]], Plan]
"""Makes a plan of what is observed, and of what the API server said when it refused children that were
planned from the same, by their nodes."""


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

    def __init__(
        self,
        client: Client,
        cache: Cache,
        progress: Mapping[str, Progress],
        explainer: Explainer,
        ttl: int | None = None,
        network: Network | None = None,
    ) -> None:
        """`ttl`: ttlSecondsAfterFinished of runs that set none. `network`: for NetworkPolicies of each run;
        without it none are made."""
        self._client = client
        self._cache = cache
        self._progress = progress
        self._explainer = explainer
        self._starts = Starts(client, cache)
        self._ttl = ttl
        self._network = network

    async def look(self, key: RunName) -> float | Behind | None:
        """Look at a run and do what comes next; answers when to look again.

        Raises Retry when the API server did not play along: all that was done is done again, to no harm.
        """
        manifest = self._cache.get(RUNS, *key)
        if manifest is None:
            self._starts.forget(*key)
            return None
        if manifest["spec"].get("managedBy", MANAGER) != MANAGER:
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
            raise Retry(error.message, error.retry_after, forbidden=error.status == 403) from None
        except Retry as refused:
            log.warning("%s/%s: %s", *key, refused)
            raise
        except Exception as error:
            # A fault of ours must not end the operator: other runs go on, and this one can be stopped.
            log.exception("%s/%s: unforeseen error", *key)
            await self._stop_despite(key, manifest, error)
            raise Retry(str(error), longest=UNFORESEEN_SECONDS) from None
        else:
            return again
        finally:
            exporter.reconciles.labels(outcome).inc()
            exporter.reconcile_seconds.observe(time.monotonic() - started)

    async def _look(self, key: RunName, manifest: Object) -> float | Behind | None:
        # Of a run that is being deleted everything is stopped, also while it has a finalizer of others.
        if "deletionTimestamp" in manifest["metadata"]:
            await self._leave(manifest)
            return None

        # A run that ended goes when its time is over, and what was made for it before that.
        previous, now = _status(manifest), self._client.now()
        if previous.settled(manifest["metadata"].get("generation", 0)):
            left = self._time_left(manifest, previous, now)
            if left is not None and left <= 0:
                uid, version = (manifest["metadata"][name] for name in ("uid", "resourceVersion"))
                await self._client.delete(RUNS, *key, uid=uid, version=version)
                return None
            self._starts.forget(*key)
            keeps = manifest["metadata"].get("annotations", {}).get(KEEP_CHILDREN) == "true"
            platform = self._platform(manifest)
            return await self._act(
                key, manifest, platform, lambda seen, _: settled(seen, previous, keeps_children=keeps)
            )

        # What it names must be there when it starts, or the run waits and says for what.
        try:
            run, runtime, started, changed = await self._starts.of(manifest, previous)
        except NotAccepted as found:
            trouble = Trouble(found.reason, str(found))
            return earliest(await self._stall(key, manifest, trouble), found.again)
        except ApiError as error:
            # What it names cannot be read just now: it is stopped all the same.
            if error.refused or manifest["spec"].get("suspend"):
                trouble = Trouble(Reason.REFERENCE_NOT_FOUND, error.message, accepted=True)
                await self._stall(key, manifest, trouble)
            raise

        # The plan is made from what the cache says; what is dangerous from what the API server says.
        def decide(observed: Observed, refused: Mapping[str, str]) -> Plan:
            moves = plan(run, runtime, observed, previous, now, refused)
            return moves._replace(status=noted(moves.status, started, changed))

        platform = self._platform(manifest, partial(render, run, runtime, network=self._network))
        return await self._act(key, manifest, platform, decide)

    async def _act(
        self, key: RunName, manifest: Object, platform: KubernetesPlatform, decide: Decide
    ) -> float | Behind | None:
        """Observe, decide, tell, carry out."""
        previous, observed = _status(manifest), await platform.observe()
        moves = decide(observed, {})
        if moves.needs_certainty:
            newer = await self._newer(key, manifest)
            if newer is None or _said_of(newer) != _said_of(manifest):
                return 0.0
            manifest, observed = newer, await platform.observe(live=True)
            moves = decide(observed, {})

        # What was seen is told, then what is planned is done. What is refused is told, and tried again later.
        if moves.tells:
            try:
                manifest = await tell(self._client, self._cache, manifest, previous, moves.status, moves.news)
            except ApiError as error:
                # A run that is to stop stops also when the API server will not have its status.
                to_stop = moves.finished or manifest["spec"].get("suspend")
                if to_stop and error.status in (400, 403, 413, 422):
                    await carry_out(platform, moves)
                raise
        failed: ApiError | None = None
        try:
            refused = await carry_out(platform, moves)
        except ApiError as error:
            failed, refused = error, {"": error.message}
        if refused:
            again = decide(observed, refused)
            await tell(self._client, self._cache, manifest, _status(manifest), again.status, again.news)
            raise failed or Retry("; ".join(f"{node} {said}" for node, said in refused.items()))

        # The children of a run that ended go once that is told.
        if moves.ends:
            return 0.0

        # First statuses come after the first Jobs of others, when many runs are created at once.
        if moves.create and not previous.conditions:
            return Behind()
        left = self._time_left(manifest, moves.status, self._client.now())
        return earliest(moves.requeue_after, platform.again(), left)

    async def _stall(self, key: RunName, manifest: Object, trouble: Trouble) -> float | Behind | None:
        """Look at a run that cannot be carried out."""
        metadata, now = manifest["metadata"], self._client.now()
        bounds = read_known(Bounds, manifest["spec"])
        generation = metadata.get("generation", 0)

        def decide(observed: Observed, _: Mapping[str, str]) -> Plan:
            life = Life(metadata["name"], generation, bounds, observed, _status(manifest), now)
            return stalled(life, trouble)

        return await self._act(key, manifest, self._platform(manifest), decide)

    async def _stop_despite(self, key: RunName, manifest: Object, error: Exception) -> None:
        """Say of a run that an error of ours keeps it from being carried out, and let it be stopped."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error}"[:300]
        message = (
            f"an error of the operator: {said} ({Path(where.filename).name}, line {where.lineno}); the log "
            f"of its pod {socket.gethostname()} says more at {key.namespace}/{key.name}"
        )
        try:
            await self._stall(key, manifest, Trouble(Reason.OPERATOR_ERROR, message, accepted=True))
        except (ApiError, Retry) as refused:
            log.warning("%s/%s: the error cannot be told: %s", *key, refused)
        except Exception:
            log.exception("%s/%s: unforeseen error while an error was told", *key)

    async def _leave(self, manifest: Object) -> None:
        """Stop what runs of a run that is being deleted, unless its objects are to stay."""
        if ORPHAN in manifest["metadata"].get("finalizers", ()):
            return
        platform = self._platform(manifest)
        if running(await platform.observe()):
            seen = await platform.observe(live=True)
            await carry_out(platform, settled(seen, RunStatus()))

    def _platform(self, manifest: Object, rendered: Rendered = lambda _: ()) -> KubernetesPlatform:
        """The platform of a run; nothing is created on one that lacks `rendered`."""
        metadata = ObjectMeta.model_validate(manifest["metadata"])
        return KubernetesPlatform(
            self._client, self._cache, metadata, self._progress, self._explainer, rendered
        )

    def _time_left(self, manifest: Object, status: RunStatus | None, now: float) -> float | None:
        """Seconds until a finished run is to be deleted, 0 or less once it is; None for one that stays or has
        not finished."""
        ttl = manifest["spec"].get("ttlSecondsAfterFinished", self._ttl)
        if ttl is None or status is None or status.completion_time is None:
            return None
        return unix(status.completion_time) + float(ttl) - now

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


def earliest(*dues: float | Behind | None) -> float | Behind | None:
    """The first of several times to look again, in seconds; Behind others if one says so."""
    if behind := next((due for due in dues if isinstance(due, Behind)), None):
        return behind
    return min((due for due in dues if due is not None and not isinstance(due, Behind)), default=None)


def _status(manifest: Object) -> RunStatus:
    """The status as last written; an empty one before the first."""
    return read_known(RunStatus, manifest.get("status") or {})


def _said_of(manifest: Object) -> tuple[Any, ...]:
    """What a look at a run rests on. Labels and annotations are anybody's to change, at any rate."""
    metadata = manifest["metadata"]
    return metadata["uid"], metadata.get("generation"), manifest.get("status")
