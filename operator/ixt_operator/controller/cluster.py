"""One look at a run on a cluster: read, plan, carry out, write the status."""

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import (
    CONFIG_MAPS,
    EVENTS,
    RUNS,
    RUNTIMES,
    ApiError,
    Client,
    Object,
)
from ixt_operator.adapters.kubernetes.platform import KubernetesPlatform, Refused
from ixt_operator.adapters.port import carry_out
from ixt_operator.api.judge import RubricSpec
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import Reason, RunStatus, parse_status, rfc3339, unix
from ixt_operator.controller import exporter
from ixt_operator.controller.queue import Later, Retry
from ixt_operator.manifests.documents import syntax_error, yaml_documents
from ixt_operator.planner.describe import held_up, unaccepted
from ixt_operator.planner.events import Event, events
from ixt_operator.planner.plan import plan
from ixt_operator.planner.retry import Cause
from ixt_workloads.contract.results import Progress
from ixt_workloads.contract.rubrics import RubricText

log = logging.getLogger("ixt.run")

CONFIG_MAP_SECONDS = 5.0
"""ConfigMaps are not watched: one that a run waits for is asked for this often."""


class Key(NamedTuple):
    """A run."""

    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Object) -> "Key":
        """The key of a run."""
        return cls(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


class NotAccepted(Exception):  # noqa: N818 - a finding
    """The run cannot be carried out as it stands. `again`: seconds after which to look again, for what no
    watch tells of."""

    def __init__(self, reason: Reason, message: str, again: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.again = again


class Runs:
    """Looks at runs."""

    def __init__(self, client: Client, cache: Cache, progress: Mapping[str, Progress]) -> None:
        self._client = client
        self._cache = cache
        self._progress = progress
        self._first: dict[Key, tuple[str, str]] = {}
        """Uids and statuses of runs that have begun and do not say so yet; as JSON, which takes a fraction of
        the memory that models take."""

    async def look(self, key: Key) -> float | Later | None:
        """Look at a run and do what comes next; answers when to look again.

        Raises Retry when the API server did not play along: all that was done is done again, to no harm.
        """
        manifest = self._cache.get(RUNS, *key)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self._first.pop(key, None)
            return None
        started = time.monotonic()
        outcome = "error"
        try:
            again = await self._look(manifest)
            outcome = "ok"
        except ApiError as error:
            if error.status in (404, 409):
                with suppress(ApiError):
                    await self._newer(manifest)
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

    async def _look(self, manifest: Object) -> float | Later | None:
        written, now = previous_status(manifest), time.time()
        if written:
            # Also when the answer to the write was lost.
            self._first.pop(Key.of(manifest), None)
        previous = written or self._not_written(manifest)
        generation = manifest["metadata"].get("generation", 0)
        settled = previous if previous and previous.settled(generation) else None
        left = _time_left(manifest, settled, now)
        if left is not None and left <= 0:
            uid, version = (manifest["metadata"][name] for name in ("uid", "resourceVersion"))
            await self._client.delete(RUNS, *Key.of(manifest), uid=uid, version=version)
            return None
        try:
            run = _run(manifest)
            runtime = self._runtime(run)
            run = await self._with_rubric(run)
        except NotAccepted as found:
            if settled:
                return left
            status = unaccepted(previous, found.reason, str(found), generation, now)
            await self._write(manifest, written, status, {})
            return found.again
        platform = KubernetesPlatform(self._client, self._cache, run, runtime, self._progress)
        moves = plan(run, runtime, await platform.observe(), previous, now)
        if moves.needs_certainty:
            newer = await self._newer(manifest)
            if newer is None or _said_of(newer) != _said_of(manifest):
                return 0.0
            manifest = newer
            moves = plan(run, runtime, await platform.observe(live=True), previous, now)
        status, refused = moves.status, None
        try:
            await carry_out(platform, moves)
        except Refused as error:
            made = (await platform.observe()).children
            unmade = [child for child in moves.create if child.name not in made]
            status, refused = held_up(status, previous, unmade, str(error)), error
        if moves.create and not previous and not refused:
            # When many are created at once, the first Jobs of others go before it.
            self._first[Key.of(manifest)] = manifest["metadata"]["uid"], status.model_dump_json()
            return Later()
        await self._write(manifest, written, status, moves.failures)
        if refused:
            raise Retry(str(refused))
        due = (moves.requeue_after, platform.again(), _time_left(manifest, status, now))
        return min((seconds for seconds in due if seconds is not None), default=None)

    def _not_written(self, manifest: Object) -> RunStatus | None:
        """The status of a run that has begun and does not say so yet."""
        uid, first = self._first.get(Key.of(manifest), ("", ""))
        return RunStatus.model_validate_json(first) if uid == manifest["metadata"]["uid"] else None

    def _runtime(self, run: IXTRun) -> IXTRuntime:
        name = run.spec.runtime_ref.name
        found = self._cache.get(RUNTIMES, "", name)
        if found is None:
            have = ", ".join(sorted(entry["metadata"]["name"] for entry in self._cache.all(RUNTIMES)))
            raise NotAccepted(
                Reason.RUNTIME_NOT_FOUND,
                f"spec.runtimeRef.name: there is no IXTRuntime {name}; there are: {have or 'none'}",
            )
        try:
            return IXTRuntime.model_validate(found)
        except ValidationError as error:
            raise NotAccepted(Reason.RUNTIME_NOT_FOUND, f"IXTRuntime {name}: {_said(error)}") from None

    async def _with_rubric(self, run: IXTRun) -> IXTRun:
        """The run with a rubric that lies in a ConfigMap written out."""
        judge = run.spec.judge
        reference = judge.rubric.config_map_key_ref if judge else None
        if judge is None or reference is None:
            return run
        found = await self._client.get(CONFIG_MAPS, run.metadata.namespace, reference.name)
        text = (found or {}).get("data", {}).get(reference.key)
        place = f"spec.judge.rubric.configMapKeyRef: ConfigMap {reference.name}"
        if text is None:
            what = f"has no key {reference.key}" if found else "does not exist"
            raise NotAccepted(
                Reason.REFERENCE_NOT_FOUND,
                f"{place} {what} in namespace {run.metadata.namespace}",
                CONFIG_MAP_SECONDS,
            )
        try:
            value = next((document.value for document in yaml_documents(text)), None)
            rubric = RubricSpec(inline=RubricText.model_validate(value))
        except (ValidationError, yaml.YAMLError) as error:
            said = _said(error) if isinstance(error, ValidationError) else syntax_error(error)[1]
            message = f"{place}, key {reference.key}: {said}"
            raise NotAccepted(Reason.INVALID_SPEC, message, CONFIG_MAP_SECONDS) from None
        spec = run.spec.model_copy(update={"judge": judge.model_copy(update={"rubric": rubric})})
        return run.model_copy(update={"spec": spec})

    async def _write(
        self,
        manifest: Object,
        written: RunStatus | None,
        status: RunStatus,
        failures: Mapping[str, Cause],
    ) -> None:
        """Write the status if it says something new, then the events that tell of it."""
        if status == written:
            return
        # A write of the status leaves the rest of the object as it is: the spec need not travel.
        value = status.model_dump(mode="json", exclude_none=True)
        replaced = await self._client.replace(
            {**{name: manifest[name] for name in ("apiVersion", "kind", "metadata")}, "status": value},
            "status",
        )
        self._cache.put(RUNS, replaced)
        self._first.pop(Key.of(manifest), None)
        for event in events(written, status, failures):
            await self._post(manifest, event)

    async def _post(self, manifest: Object, event: Event) -> None:
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
            await self._client.create(body)
        except ApiError as error:
            log.warning("%s/%s: an event was not posted: %s", metadata["namespace"], metadata["name"], error)

    async def _newer(self, manifest: Object) -> Object | None:
        """A run as it is: the watch tells late what changed, and after a gap not at all what is gone. None if
        it is gone, or on its way out."""
        metadata = manifest["metadata"]
        found = await self._client.get(RUNS, metadata["namespace"], metadata["name"])
        if found is None or found["metadata"]["uid"] != metadata["uid"]:
            self._cache.drop(RUNS, manifest, successor=found)
        if found is None:
            return None
        self._cache.put(RUNS, found)
        if "deletionTimestamp" in found["metadata"]:
            return None
        return self._cache.get(RUNS, metadata["namespace"], metadata["name"])


def _said_of(manifest: Object) -> tuple[Any, ...]:
    """What a look at a run rests on. Labels and annotations are anybody's to change, at any rate."""
    metadata = manifest["metadata"]
    return metadata["uid"], metadata.get("generation"), manifest.get("status")


def _time_left(manifest: Object, status: RunStatus | None, now: float) -> float | None:
    """Seconds until a finished run is to be deleted, 0 or less once it is; None for one that stays or has not
    finished."""
    ttl = manifest["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or status is None or status.completion_time is None:
        return None
    return unix(status.completion_time) + float(ttl) - now


def previous_status(manifest: Mapping[str, Any]) -> RunStatus | None:
    """The status as last written; None for a run that was never looked at."""
    return parse_status(manifest["status"]) if manifest.get("status") else None


def _run(manifest: Object) -> IXTRun:
    try:
        return IXTRun.model_validate({name: value for name, value in manifest.items() if name != "status"})
    except ValidationError as error:
        skewed = {each["type"] for each in error.errors()} != {"refused_option"}
        hint = "; the API server let it pass: are CRDs and operator of one version?" if skewed else ""
        raise NotAccepted(Reason.INVALID_SPEC, f"{_said(error)}{hint}") from None


def _said(error: ValidationError) -> str:
    problems: Iterable[Any] = error.errors(include_url=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)[:900]
