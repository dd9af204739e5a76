"""What a run was started with: its runtime and its rubric as they were when its spec was last edited.

Both belong to others, who may edit or delete them at any time. So that this neither stops nor changes what
runs, they are written into one immutable ConfigMap a generation of the run, which the run owns. What changed
since is told, and taken over with the next edit of the spec, or at once with the annotation TAKE_OVER.

Whoever may write ConfigMaps in the run's namespace could put another runtime in place of an administrator's.
So the run's status, which users cannot write, keeps the hash of what it was started with; another content
counts for nothing.

The ConfigMap also has the run's spec, and what its status told of steps until then: `kubectl ixt why` finds
out of these which field gave a step another key (planner/history.py).
"""

import hashlib
import json
import time
from collections.abc import Callable
from typing import NamedTuple

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, ApiError, Client, Object, owned_by
from ixt_operator.api.run import TAKE_OVER, IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import Reason, RunStatus
from ixt_operator.controller.lending import Lender
from ixt_operator.controller.references import Named, NotAccepted, named, put_together, run_of
from ixt_operator.planner.history import START_FILE, start_document
from ixt_operator.render.config_map import packed
from ixt_operator.render.names import MANAGED_BY, MANAGER, RUN, RUN_UID, STARTED, owner

CHECK_SECONDS = 60.0
"""ConfigMaps are not watched: whether a rubric has changed is asked this often, when its run is looked at."""
REFUSED_SECONDS = 30.0
"""Between two tries to write a ConfigMap that the API server refuses."""

_RUNTIME, _RUBRIC = "runtime.json", "rubric.yaml"


class Start(NamedTuple):
    """A run as it is carried out."""

    run: IXTRun
    """With its rubric written out."""
    runtime: IXTRuntime
    hash: str
    """Of what it was started with; empty while it is suspended, and starts nothing."""
    changed: str
    """What has changed in what the run names and is not taken over, for people; empty if nothing has."""


class _Kept(NamedTuple):
    """What a generation of a run was started with."""

    uid: str
    generation: int
    taken: str
    """Value of the annotation TAKE_OVER by then."""
    named: Named
    hash: str
    changed: str = ""
    check_at: float = 0.0
    """When to ask again what has changed, by the clock."""


class Starts:
    """What runs were started with."""

    def __init__(self, client: Client, cache: Cache, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._cache = cache
        self._clock = clock
        self._lender = Lender(client, cache, clock)
        self._kept: dict[tuple[str, str], _Kept] = {}
        """By namespace and name of the run."""

    async def of(self, manifest: Object, status: RunStatus) -> Start:
        """What a run is carried out with; `status` is what was told of it last. Raises NotAccepted, and
        ApiError."""
        run, metadata = run_of(manifest), manifest["metadata"]
        await self._lender.permit(run)
        if run.spec.suspend:  # nothing starts
            return Start(*put_together(run, await named(run, self._client, self._cache)), "", "")
        place = metadata["namespace"], metadata["name"]
        kept = self._kept.get(place)
        if kept is None or (kept.uid, kept.generation) != (metadata["uid"], run.metadata.generation):
            kept = await self._read(run, status) or await self._write(manifest, run, status)
        if _asked(manifest) not in ("", kept.taken):
            kept = await self._taken_over(kept, manifest, run, status)
        if self._clock() >= kept.check_at or not run.rubric_reference:
            kept = await self._checked(kept, run)
        self._kept[place] = kept
        return Start(*put_together(run, kept.named), kept.hash, kept.changed)

    def forget(self, namespace: str, name: str) -> None:
        """Forget a run that is gone or has ended."""
        self._kept.pop((namespace, name), None)

    async def _read(self, run: IXTRun, status: RunStatus) -> _Kept | None:
        """What the run's generation was started with; None if that is not there as it was written."""
        told = status.internal.started
        found = told and await self._client.get(CONFIG_MAPS, run.metadata.namespace, _name(run, told))
        if not found or _hash(found, run) != told:
            return None
        annotations = found["metadata"].get("annotations", {})
        kept = Named(found["data"].get(_RUNTIME, ""), found["data"].get(_RUBRIC))
        return _Kept(run.metadata.uid, run.metadata.generation, annotations.get(TAKE_OVER, ""), kept, told)

    async def _write(self, manifest: Object, run: IXTRun, status: RunStatus) -> _Kept:
        """Write down what there is now."""
        current = await named(run, self._client, self._cache)
        carried_out, _ = put_together(run, current)
        asked = _asked(manifest)
        written = _written(carried_out, current, asked, status)
        try:
            await self._create(written, run)
        except ApiError as error:
            if not error.refused:
                raise
            message = f"what the run starts with cannot be written down: {error.message}"
            raise NotAccepted(Reason.CREATE_REFUSED, message, REFUSED_SECONDS) from None
        return _Kept(run.metadata.uid, run.metadata.generation, asked, current, _hash(written, run))

    async def _create(self, written: Object, run: IXTRun) -> None:
        """Create the ConfigMap, in place of one of its name with another content."""
        if await self._client.create(written):
            return
        name, space = written["metadata"]["name"], run.metadata.namespace
        found = await self._client.get(CONFIG_MAPS, space, name)
        if found and owned_by(found, run.metadata.uid):
            if _hash(found, run) == _hash(written, run):
                return  # a leader before this one wrote it, and could not tell of it
            await self._client.delete(CONFIG_MAPS, space, name, uid=found["metadata"]["uid"])
            if await self._client.create(written):
                return
        elif found:
            message = f"ConfigMap {name} exists and is not this run's: delete or rename it"
            raise NotAccepted(Reason.CREATE_REFUSED, message, REFUSED_SECONDS)
        raise ApiError(409, "AlreadyExists", "what the run starts with was written down meanwhile")

    async def _taken_over(self, kept: _Kept, manifest: Object, run: IXTRun, status: RunStatus) -> _Kept:
        """What there is now instead of what was kept; the latter while the run cannot be carried out so."""
        try:
            put_together(run, await named(run, self._client, self._cache))
        except NotAccepted:
            return kept
        return await self._write(manifest, run, status)

    async def _checked(self, kept: _Kept, run: IXTRun) -> _Kept:
        """What was kept, and what has changed since."""
        try:
            current = await named(run, self._client, self._cache)
        except NotAccepted as missing:
            changed = _told(str(missing), run)
        except ApiError:
            return kept  # it is only not known
        else:
            parts = [
                f"IXTRuntime {run.spec.runtime_ref.name}" if current.runtime != kept.named.runtime else "",
                "the ConfigMap of its rubric" if current.rubric != kept.named.rubric else "",
            ]
            what = " and ".join(part for part in parts if part)
            changed = _told(f"{what} changed", run) if what else ""
        return kept._replace(changed=changed, check_at=self._clock() + CHECK_SECONDS)


def _asked(manifest: Object) -> str:
    """The value of the annotation."""
    return str(manifest["metadata"].get("annotations", {}).get(TAKE_OVER, ""))


def _name(run: IXTRun, hash_: str) -> str:
    # Names of children have no dots.
    return f"{run.metadata.name}.started-{run.metadata.generation}-{hash_[:10]}"


def _hash(config: Object, run: IXTRun) -> str:
    """Hash of all that a run's start consists of. Run and generation are in it: what another was started with
    is not this one's."""
    taken = config["metadata"].get("annotations", {}).get(TAKE_OVER, "")
    contents = [config.get("data"), config.get("binaryData")]
    text = json.dumps([run.metadata.uid, run.metadata.generation, taken, *contents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _told(what: str, run: IXTRun) -> str:
    return (
        f"{what}; the run goes on with what it was started with, until its spec is edited, or at once by: "
        f'kubectl annotate --overwrite ixtrun {run.metadata.name} {TAKE_OVER}="$(date)"'
    )


def _written(run: IXTRun, current: Named, asked: str, status: RunStatus) -> Object:
    """The ConfigMap of a start; `run` has its rubric written out."""
    packs = packed(START_FILE, start_document(run, status))
    data = {_RUNTIME: current.runtime} | ({} if current.rubric is None else {_RUBRIC: current.rubric})
    found: Object = {
        "apiVersion": CONFIG_MAPS.group_version,
        "kind": "ConfigMap",
        "metadata": {
            "namespace": run.metadata.namespace,
            "labels": {
                MANAGED_BY: MANAGER,
                RUN: run.metadata.name,
                RUN_UID: run.metadata.uid,
                STARTED: str(run.metadata.generation),
            },
            "annotations": {TAKE_OVER: asked} if asked else {},
            "ownerReferences": [owner(run)],
        },
        "immutable": True,
        **packs,
        "data": data | packs.get("data", {}),
    }
    found["metadata"]["name"] = _name(run, _hash(found, run))
    return found
