"""Who may reach the pods of a run, as one NetworkPolicy for each role that the run has. Pure.

Beside those of the same namespace that a chart makes they only open more: what a policy of several lets in is
let in. Without a network plugin that enforces policies they do nothing.
"""

from typing import Any, NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.render.names import COMPONENT, NAME, RUN_UID, SPACE, Object, metadata_of_run, name_of_run
from ixt_workloads.contract.kinds import Role

OPERATOR = {NAME: "ixt-operator"}
"""Labels of the operator's pods: the chart's name, whatever the release is called."""


class Network(NamedTuple):
    """Who reads what pods of runs tell."""

    operator: str
    """Namespace of the operator."""
    monitoring: tuple[str, ...] = ()
    """Namespaces whose pods read metrics."""


def policy(run: IXTRun, role: Role, network: Network) -> Object:
    """The policy of a run's pods of one role: the operator and monitoring reach what they tell, steps of the
    run its judges, and its trainers each other."""
    own: Object = {RUN_UID: run.metadata.uid}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata_of_run(run, name_of_run(run, role.lower())),
        "spec": {
            "podSelector": {"matchLabels": {**own, COMPONENT: role.lower()}},
            "policyTypes": ["Ingress"],
            "ingress": _ingress(role, own, network),
        },
    }


def _ingress(role: Role, own: Object, network: Network) -> list[Object]:
    monitoring: list[Any] = [_pods_in(*network.monitoring)] if network.monitoring else []
    if role is Role.JUDGE:
        return [{"from": [{"podSelector": {"matchLabels": own}}, *monitoring], "ports": [{"port": "http"}]}]
    operator = {**_pods_in(network.operator), "podSelector": {"matchLabels": OPERATOR}}
    told = {"from": [operator, *monitoring], "ports": [{"port": "progress"}]}
    if role is not Role.TRAINER:
        return [told]
    # All ports: beside the rendezvous, ranks open others.
    peers = {"podSelector": {"matchLabels": {**own, COMPONENT: role.lower()}}}
    return [told, {"from": [peers]}]


def _pods_in(*namespaces: str) -> Object:
    chosen = {"key": SPACE, "operator": "In", "values": list(namespaces)}
    return {"namespaceSelector": {"matchExpressions": [chosen]}}
