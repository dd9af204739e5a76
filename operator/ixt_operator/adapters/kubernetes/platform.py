"""KubernetesPlatform: the children of one run as Jobs, Deployments, Services and ConfigMaps."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from ixt_operator.adapters.kubernetes.cache import CHILDREN, Cache, slim
from ixt_operator.adapters.kubernetes.client import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    NODES,
    PODS,
    SERVICES,
    ApiError,
    Client,
    Object,
    Resource,
    owned_by,
    resource_of,
)
from ixt_operator.adapters.kubernetes.explaining import Explainer
from ixt_operator.adapters.kubernetes.translate import (
    LINGER_SECONDS,
    STUCK_SECONDS,
    Lost,
    Seen,
    lingering,
    lost,
    node_lost,
    observed,
    stuck_at,
    unexplained,
)
from ixt_operator.adapters.port import Refused
from ixt_operator.api.meta import ObjectMeta
from ixt_operator.api.status import rfc3339
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import Observed
from ixt_operator.render.api_key import API_KEY
from ixt_operator.render.names import RUN_UID
from ixt_workloads.contract.results import Progress

log = logging.getLogger("ixt.platform")


TEND_SECONDS = 10.0
"""So long a look cares for pods of lost nodes and for sidecars; the rest is left to the next."""

Rendered = Callable[[Child], tuple[Object, ...]]
"""Makes the manifests of a child."""


class KubernetesPlatform:
    """Platform of one run. Reads come from the cache unless `live`."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        metadata: ObjectMeta,
        progress: Mapping[str, Progress],
        explainer: Explainer,
        rendered: Rendered,
    ) -> None:
        """The platform of the run that has this metadata. `rendered` makes manifests of a child."""
        self._client = client
        self._cache = cache
        self._uid = metadata.uid
        self._namespace = metadata.namespace
        self._progress = progress
        self._explainer = explainer
        self._name = metadata.name
        self._rendered = rendered

    async def observe(self, *, live: bool = False) -> Observed:
        """All children. Pods of nodes that are lost are marked as failed or removed first."""
        uid = self._uid
        if live:
            for resource in CHILDREN:
                found = await self._client.list(
                    resource, self._namespace, labels=f"{RUN_UID}={uid}", take=partial(slim, resource)
                )
                self._cache.replace(resource, found, self._namespace, uid)
        now = self._client.now()
        await self._tend(self._seen(), now)
        seen = self._seen()
        due = [each.uid for each in unexplained(seen) if now >= each.since + each.patience]
        why = self._explainer.said(self._namespace, self._name, due)
        return observed(seen, self._progress, why)

    def again(self) -> float | None:
        """Seconds until the next look that is needed for what no watch tells: that Jobs and pods have made no
        progress for so long that it is asked why, and that pods which were to go are still there, or could
        not be told to."""
        seen, now = self._seen(), self._client.now()
        late = [at - now for pod in seen.pods if (at := stuck_at(pod)) is not None]
        due = [left if left > 0 else STUCK_SECONDS for left in late]
        due += [STUCK_SECONDS for _ in lingering(seen)]
        due += [left for each in unexplained(seen) if (left := each.since + each.patience - now) > 0]
        return min(due, default=None)

    async def create(self, child: Child) -> None:
        """Create a child's objects: first what its pods need, then its Job or Deployment, which the next look
        then sees. Raises Refused, and ApiError when the child would not be seen."""
        *needs, workload = self._rendered(child)
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
        and deleted again. What its pods needed, and cannot be deleted at two tries, stays until the run goes:
        that keeps nothing from being stopped."""
        seen = self._seen()
        kept = await self._try_to_delete((CONFIG_MAPS, SERVICES), name)
        for resource, found in ((JOBS, seen.jobs), (DEPLOYMENTS, seen.deployments)):
            for manifest in found:
                if manifest["metadata"]["name"] == name:
                    metadata = {**manifest["metadata"]}
                    metadata.setdefault("deletionTimestamp", rfc3339(self._client.now()))
                    await self._remove(resource, manifest)
                    self._cache.put(resource, {**manifest, "metadata": metadata})
        for resource, error in (await self._try_to_delete(kept, name)).items():
            log.warning("%s %s/%s stays: %s", resource.plural, self._namespace, name, error)

    async def _try_to_delete(self, resources: Iterable[Resource], name: str) -> dict[Resource, ApiError]:
        """Delete objects of one name; why those that are still there could not be deleted."""
        failed = {}
        for resource in resources:
            try:
                await self._delete(resource, name)
            except ApiError as error:
                failed[resource] = error
        return failed

    async def scale(self, child: Child) -> None:
        """Give a Deployment the child's number of replicas, and its Service if that is gone."""
        for manifest in self._rendered(child):
            if manifest["kind"] == "Service":
                with _refusals(child):
                    await self._apply(manifest)
        patch = {"spec": {"replicas": child.indexes}}
        changed = await self._client.merge(DEPLOYMENTS, self._namespace, child.name, patch)
        if changed:
            self._cache.put(DEPLOYMENTS, changed)

    def _seen(self) -> Seen:
        return self._cache.of_run(self._namespace, self._uid)

    async def _make(self, needs: list[Object], workload: Object) -> Object | None:
        """Create a child's objects; None if it was made before and is to be left as it is."""
        for manifest in needs:
            if manifest["kind"] == "Service":
                await self._apply(manifest)
            elif manifest["kind"] == "NetworkPolicy":
                # Nothing is stored where nothing changed. Who serves the run next may let in others.
                await self._client.apply(manifest)
            elif manifest["kind"] == "Secret":
                # One that is there already is left as it is. Whose it is is not asked: that would need the
                # right to read Secrets.
                drawn = {API_KEY: secrets.token_urlsafe(32)}
                await self._client.create({**manifest, "stringData": drawn})
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
                await self._remove(CONFIG_MAPS, found)
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
        if found is not None and not owned_by(found, self._uid):
            raise Refused(
                f"{wanted['kind']} {wanted['metadata']['name']} exists in namespace {self._namespace} and is "
                f"not this run's: delete or rename it"
            )
        return found

    async def _delete(self, resource: Resource, name: str) -> None:
        found = await self._client.get(resource, self._namespace, name)
        if found and owned_by(found, self._uid):
            await self._remove(resource, found)

    async def _remove(
        self, resource: Resource, found: Object, grace: int | None = None, version: str = ""
    ) -> None:
        name, uid = found["metadata"]["name"], found["metadata"]["uid"]
        await self._client.delete(resource, self._namespace, name, uid=uid, version=version, grace=grace)

    async def _tend(self, seen: Seen, now: float) -> None:
        """Mark as failed, or remove, the pods of lost nodes, and end what goes on beside steps that ended.
        What of it fails, or takes long, is left to a later look: it keeps nothing else from being done."""
        try:
            async with asyncio.timeout(TEND_SECONDS):
                await self._tend_lost(seen, now)
                await self._tend_lingering(seen)
        except TimeoutError:
            log.warning("pods of %s/%s: tending them takes too long", self._namespace, self._name)

    async def _tend_lost(self, seen: Seen, now: float) -> None:
        """Give up pods of lost nodes: pods and nodes as they are now, and only while they stay so."""
        candidates = lost(seen, now)
        pods = [pod for pod in (*candidates.mark, *candidates.remove) if pod["spec"].get("nodeName")]
        nodes = {pod["spec"]["nodeName"] for pod in pods}
        gone = {node for node in nodes if await self._node_lost(node)}
        for pod in pods:
            if pod["spec"]["nodeName"] in gone:
                with self._left_for_later(pod):
                    if newest := await self._newest(pod):
                        await self._give_up(lost(seen._replace(pods=(newest,)), now))

    async def _tend_lingering(self, seen: Seen) -> None:
        """End the containers that go on beside a step that has ended."""
        for pod in lingering(seen):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            log.info("pod %s/%s: its step has ended, and so do its other containers", self._namespace, name)
            patch = {"metadata": {"uid": uid}, "spec": {"activeDeadlineSeconds": LINGER_SECONDS}}
            with self._left_for_later(pod):
                if changed := await self._client.merge(PODS, self._namespace, name, patch):
                    self._cache.put(PODS, changed)

    @contextmanager
    def _left_for_later(self, pod: Object) -> Iterator[None]:
        """Go on when the API server refuses what is to be done with a pod."""
        try:
            yield
        except ApiError as error:
            log.warning("pod %s/%s: %s", self._namespace, pod["metadata"]["name"], error)

    async def _give_up(self, found: Lost) -> None:
        for pod in found.mark:
            metadata, node = pod["metadata"], pod["spec"]["nodeName"]
            name, until = metadata["name"], metadata["deletionTimestamp"]
            message = f"node {node} does not answer, and the pod was to be gone by {until}"
            log.warning("pod %s/%s: %s", self._namespace, name, message)
            same = {field: metadata[field] for field in ("uid", "resourceVersion")}
            patch = {
                "metadata": same,
                "status": {"phase": "Failed", "reason": "NodeLost", "message": message},
            }
            changed = await self._client.merge(PODS, self._namespace, name, patch, "status")
            if changed:
                self._cache.put(PODS, changed)
        for pod in found.remove:
            log.warning("pod %s/%s of a lost node is removed", self._namespace, pod["metadata"]["name"])
            await self._remove(PODS, pod, grace=0, version=pod["metadata"]["resourceVersion"])

    async def _node_lost(self, name: str) -> bool:
        try:
            return node_lost(await self._client.get(NODES, "", name))
        except ApiError as error:
            log.warning("node %s: whether it is lost cannot be asked: %s", name, error)
            return False

    async def _newest(self, pod: Object) -> Object | None:
        """A pod as it is; None if it is gone."""
        found = await self._client.get(PODS, self._namespace, pod["metadata"]["name"])
        if found is None or found["metadata"]["uid"] != pod["metadata"]["uid"]:
            self._cache.drop(PODS, pod, successor=found)
            return None
        self._cache.put(PODS, found)
        return found


@contextmanager
def _refusals(child: Child) -> Iterator[None]:
    """Raise Refused when the API server refuses an object of a child."""
    try:
        yield
    except ApiError as error:
        if error.refused:
            raise Refused(f"cannot be started: {error.message}") from None
        raise
