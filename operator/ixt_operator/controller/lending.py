"""Whether a run may use the runtime that it names: whom an IXTRuntime is for, and what of its pods runs may
change. Both are read of the runtime as it is, so that what is taken back is lent no more."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import NAMESPACES, RUNTIMES, Client
from ixt_operator.api.pods import overridden
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import ALL_OVERRIDES, DEFAULT_OVERRIDES
from ixt_operator.api.selector import LabelSelector
from ixt_operator.api.status import Reason
from ixt_operator.controller.references import NotAccepted
from ixt_operator.render.names import SPACE

KNOWN_SECONDS = 60.0
"""For so long the labels of a namespace, which are not watched, are taken to be as they were read."""


class Lender:
    """Says which runs may use their runtimes."""

    def __init__(self, client: Client, cache: Cache, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._cache = cache
        self._clock = clock
        self._labels: dict[str, tuple[float, dict[str, str]]] = {}
        """Labels of namespaces, and until when they hold."""

    async def permit(self, run: IXTRun) -> None:
        """Raise NotAccepted if the run may not use its runtime, and ApiError if that cannot be told. A
        runtime that is gone takes nothing back."""
        name, space = run.spec.runtime_ref.name, run.metadata.namespace
        found = self._cache.get(RUNTIMES, "", name)
        if found is None:
            return
        allowed = found["spec"].get("allowedNamespaces")
        if allowed is not None and not await self._is_for(name, allowed, space):
            raise NotAccepted(
                Reason.RUNTIME_NOT_FOUND,
                f"spec.runtimeRef.name: IXTRuntime {name} is not for runs of namespace {space}: name another,"
                " or have its administrator select the namespace by spec.allowedNamespaces",
                KNOWN_SECONDS,
            )
        lent = found["spec"].get("allowedOverrides", DEFAULT_OVERRIDES)
        if ALL_OVERRIDES in lent:
            return
        if refused := next(((field, path) for field, path in _overrides(run) if field not in lent), None):
            field, path = refused
            raise NotAccepted(
                Reason.INVALID_SPEC,
                f"{path}: IXTRuntime {name} lets no run set {field}: leave it out, name another runtime, or "
                f"have its administrator add {field} to spec.allowedOverrides",
            )

    async def _is_for(self, name: str, allowed: Any, space: str) -> bool:
        try:
            selector = LabelSelector.model_validate(allowed)
        except ValidationError:
            message = f"IXTRuntime {name}: spec.allowedNamespaces is no label selector"
            raise NotAccepted(Reason.RUNTIME_INVALID, message) from None
        asked = {*selector.match_labels, *(each.key for each in selector.match_expressions)}
        # Its name is a label that every namespace has: for that nothing is read.
        known = {SPACE: space} if asked <= {SPACE} else await self._labels_of(space)
        return selector.selects(known)

    async def _labels_of(self, space: str) -> Mapping[str, str]:
        until, labels = self._labels.get(space, (0.0, {}))
        if self._clock() >= until:
            found = await self._client.get(NAMESPACES, "", space)
            labels = {**(found or {"metadata": {}})["metadata"].get("labels", {}), SPACE: space}
            self._labels[space] = self._clock() + KNOWN_SECONDS, labels
        return labels


def _overrides(run: IXTRun) -> Iterator[tuple[str, str]]:
    """The fields of pods that a run sets, each with its place in the run."""
    for role in type(run.spec.pods).model_fields:
        for field, path in overridden(getattr(run.spec.pods, role)):
            yield field, f"spec.pods.{role}.{path}"
    for position, stage in enumerate(run.spec.stages):
        if stage.train.resources_per_node:
            yield "resources", f"spec.stages[{position}].train.resourcesPerNode"
