"""Why nodes do not go on, for people: pods that cannot start, objects that are refused, servers that do not
come. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from ixt_operator.planner.building import engine_of
from ixt_operator.planner.lanes import SETTLED
from ixt_operator.planner.now import Now
from ixt_operator.planner.observed import ChildState, ProcessPhase, ProcessState
from ixt_operator.planner.scale import replica_troubles
from ixt_operator.planner.spec import serving_of
from ixt_operator.planner.survey import NodeState, Stages, StageView, Standstill, View, ready, views_of

MOST_NAMES = 8
"""So many nodes are named where many wait for the same."""

_WORD = re.compile(r"([A-Z][A-Za-z]+): ")


def with_standstills(at: Now, stages: Stages, refused: Mapping[str, str]) -> Stages:
    """The stages with why each node stands still that does. `refused` is what the API server said when it
    would not have a child, by the child's node."""

    def explained(view: View) -> View:
        if view.state in SETTLED:
            return view
        return view._replace(standstill=next(_of(at, view, refused), None))

    def of_stage(stage: StageView) -> StageView:
        return stage._replace(views={name: explained(view) for name, view in stage.views.items()})

    return tuple(map(of_stage, stages))


def told(stages: Stages) -> str:
    """All that stands still, in a line; those that wait for the same together."""
    alike: dict[str, list[str]] = defaultdict(list)
    first: dict[str, Standstill] = {}
    for _, view in views_of(stages):
        if view.standstill:
            alike[view.standstill.message].append(view.node.name)
            first.setdefault(view.standstill.message, view.standstill)
    return "; ".join(f"{names_of(names)}: {first[message].at_length}" for message, names in alike.items())


def names_of(names: list[str]) -> str:
    """Names of nodes; of many the first, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def counted(views: Iterable[View]) -> dict[str, int]:
    """How many nodes stand still for each reason."""
    return dict(Counter(view.standstill.word for view in views if view.standstill))


def _of(at: Now, view: View, refused: Mapping[str, str]) -> Iterator[Standstill]:
    server = serving_of(at.run, view.node).node if engine_of(at.run, view.node) else ""
    for name in (view.node.name, server):
        if name in refused:
            yield Standstill("CreateRefused", refused[name])
    if view.state is NodeState.RUNNING and view.current:
        yield from _pending(view.current, "")
    for child in at.children.get(server, ()) if server else ():
        yield from _server(at, child)


def _server(at: Now, child: ChildState) -> Iterator[Standstill]:
    """Of a server: why it does not come, and which of its processes are bad while others serve."""
    if not ready(child) and not child.deleting:
        yield from _pending(child, f"the {child.short} ")
    if bad := replica_troubles(child, at):
        count = f"{len(bad)} of {len(child.processes)} replicas of the {child.short} fail"
        yield Standstill("ReplicaFailing", f"{count}: {bad[0]}")


def _pending(child: ChildState, who: str) -> Iterator[Standstill]:
    for process in child.processes:
        if process.phase is ProcessPhase.PENDING and process.reason:
            yield Standstill(_word(process), f"{who}cannot start yet: {process.reason}", process.where)


def _word(process: ProcessState) -> str:
    """The reason in one word: the platform's, where it has one."""
    found = _WORD.match(process.reason)
    return found[1][:32] if found else "NotStarted"
