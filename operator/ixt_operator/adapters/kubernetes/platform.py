"""KubernetesPlatform: the children of one run as Jobs, Deployments, Services and ConfigMaps."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ixt_operator.adapters.kubernetes.cache import CHILDREN, Cache
from ixt_operator.adapters.kubernetes.client import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    PODS,
    SERVICES,
    ApiError,
    Client,
    Object,
    Resource,
    owned_by,
    resource_of,
)
from ixt_operator.adapters.kubernetes.translate import Seen, lost, observed, stuck_at, unexplained, warning
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import rfc3339
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import Observed
from ixt_operator.render.names import RUN_UID
from ixt_operator.render.render import render
from ixt_workloads.contract.results import Progress

log = logging.getLogger("ixt.platform")


class Refused(Exception):  # noqa: N818 - what the API server did, not what went wrong here
    """An object cannot be created until a person changes what the message names."""


class KubernetesPlatform:
    """Platform of one run. Reads come from the cache unless `live`."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        run: IXTRun,
        runtime: IXTRuntime,
        progress: Mapping[str, Progress],
    ) -> None:
        self._client = client
        self._cache = cache
        self._run = run
        self._runtime = runtime
        self._progress = progress
        self._namespace = run.metadata.namespace

    async def observe(self, *, live: bool = False) -> Observed:
        """All children. Pods of nodes that do not answer are marked as failed or removed first."""
        uid = self._run.metadata.uid
        if live:
            for resource in CHILDREN:
                found = await self._client.list(resource, self._namespace, labels=f"{RUN_UID}={uid}")
                self._cache.replace(resource, found, self._namespace, uid)
        now = time.time()
        await self._tend(self._seen(), now)
        seen = self._seen()
        why = {
            each.uid: await self._warning(each.uid)
            for each in unexplained(seen)
            if now >= each.since + each.patience
        }
        return observed(seen, self._progress, why)

    def again(self) -> float | None:
        """Seconds until the next look that is needed for what no watch tells: why pods are not made or do not
        start, and that pods which were to go are still there."""
        seen, now = self._seen(), time.time()
        due = [at - now for pod in seen.pods if (at := stuck_at(pod)) is not None and at > now]
        # At growing intervals, since each look costs a LIST and a thousand runs may wait for one quota.
        due += [max(each.patience, now - each.since) for each in unexplained(seen)]
        return min(due, default=None)

    async def create(self, child: Child) -> None:
        """Create a child's objects: first what its pods need, then its Job or Deployment, which the next look
        then sees. Raises Refused, and ApiError when the child would not be seen."""
        *needs, workload = render(self._run, self._runtime, child)
        with _refusals(child):
            made = await self._make(needs, workload)
            made = made or self._own(await self._get(workload), workload)
        if made:
            self._cache.put(resource_of(workload), made)
        seen = observed(self._seen()).children.get(child.name)
        if seen is None or (seen.node, seen.key, seen.attempt) != (child.node, child.key, child.attempt):
            # Deleted just now, or its labels were edited. To plan it again at once would be in vain.
            what = f"{workload['kind']} {child.name}"
            raise ApiError(0, "Unseen", f"{what} was created, but is not seen as a child of the run")

    async def delete(self, name: str) -> None:
        """Delete a child's objects, its Job or Deployment last: while that is there, the child is observed
        and deleted again."""
        seen = self._seen()
        for resource in (CONFIG_MAPS, SERVICES):
            await self._delete(resource, name)
        for resource, found in ((JOBS, seen.jobs), (DEPLOYMENTS, seen.deployments)):
            for manifest in found:
                if manifest["metadata"]["name"] == name:
                    metadata = {**manifest["metadata"]}
                    metadata.setdefault("deletionTimestamp", rfc3339(time.time()))
                    await self._client.delete(resource, self._namespace, name, uid=metadata["uid"])
                    self._cache.put(resource, {**manifest, "metadata": metadata})

    async def scale(self, child: Child) -> None:
        """Give a Deployment the child's number of replicas, and its Service if that is gone."""
        for manifest in render(self._run, self._runtime, child):
            if manifest["kind"] == "Service":
                with _refusals(child):
                    await self._apply(manifest)
        patch = {"spec": {"replicas": child.indexes}}
        changed = await self._client.merge(DEPLOYMENTS, self._namespace, child.name, patch)
        if changed:
            self._cache.put(DEPLOYMENTS, changed)

    def _seen(self) -> Seen:
        return self._cache.of_run(self._namespace, self._run.metadata.uid)

    async def _make(self, needs: list[Object], workload: Object) -> Object | None:
        """Create a child's objects; None if it was made before and is to be left as it is."""
        for manifest in needs:
            if manifest["kind"] == "Service":
                await self._apply(manifest)
            elif not await self._create_config(manifest, workload):
                return None
        return await self._client.create(workload)

    async def _create_config(self, manifest: Object, workload: Object) -> bool:
        """Create a ConfigMap; False if the child was made before."""
        while await self._client.create(manifest) is None:
            found = await self._need(manifest)
            if found is None:
                continue  # deleted just now
            if any(found.get(part) != manifest.get(part) for part in ("data", "binaryData")):
                # Left by a creation that a crash cut short, before the run was edited.
                if await self._get(workload):
                    return False
                await self._client.delete(
                    CONFIG_MAPS, self._namespace, found["metadata"]["name"], uid=found["metadata"]["uid"]
                )
                continue
            return True
        return True

    async def _apply(self, manifest: Object) -> None:
        await self._need(manifest)
        await self._client.apply(manifest)

    async def _need(self, manifest: Object) -> Object | None:
        """An object that a child's pods need, if it is there. Raises ApiError while it is being deleted, as a
        create would."""
        found = self._own(await self._get(manifest), manifest)
        if found and "deletionTimestamp" in found["metadata"]:
            message = f"{manifest['kind']} {manifest['metadata']['name']} is being deleted"
            raise ApiError(409, "AlreadyExists", message)
        return found

    async def _get(self, manifest: Object) -> Object | None:
        return await self._client.get(resource_of(manifest), self._namespace, manifest["metadata"]["name"])

    def _own(self, found: Object | None, wanted: Object) -> Object | None:
        """The object, if it is this run's. Raises Refused for another's, which is never adopted."""
        if found is not None and not owned_by(found, self._run.metadata.uid):
            raise Refused(
                f"{wanted['kind']} {wanted['metadata']['name']} exists in namespace {self._namespace} and is "
                f"not this run's: delete or rename it"
            )
        return found

    async def _delete(self, resource: Resource, name: str) -> None:
        found = await self._client.get(resource, self._namespace, name)
        if found and owned_by(found, self._run.metadata.uid):
            await self._client.delete(resource, self._namespace, name, uid=found["metadata"]["uid"])

    async def _tend(self, seen: Seen, now: float) -> None:
        """Mark as failed, or remove, the pods of nodes that do not answer."""
        for pod in lost(seen, now).mark:
            metadata, node = pod["metadata"], pod["spec"].get("nodeName", "")
            message = (
                f"node {node} does not answer, and the pod was to be gone by {metadata['deletionTimestamp']}"
            )
            log.warning("pod %s/%s: %s", self._namespace, metadata["name"], message)
            status: dict[str, Any] = {"phase": "Failed", "reason": "NodeLost", "message": message}
            changed = await self._client.merge(
                PODS, self._namespace, metadata["name"], {"status": status}, "status"
            )
            if changed:
                self._cache.put(PODS, changed)
        for pod in lost(seen, now).remove:
            metadata = pod["metadata"]
            await self._client.delete(PODS, self._namespace, metadata["name"], uid=metadata["uid"], grace=0)

    async def _warning(self, uid: str) -> str:
        """Why an object makes no progress, from its events: the Job controller's, the kubelet's."""
        return warning(await self._client.list(EVENTS, self._namespace, fields=f"involvedObject.uid={uid}"))


@contextmanager
def _refusals(child: Child) -> Iterator[None]:
    """Raise Refused when the API server refuses an object of a child."""
    try:
        yield
    except ApiError as error:
        if error.refused:
            raise Refused(f"{child.node} cannot be started: {error.message}") from None
        raise
