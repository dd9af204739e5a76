"""What a pod of a stage's training has, as its template says. Pure."""

from ixt_operator.api.resources import amount_of, gpus_of
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.render.ports import main_container, merged_template
from ixt_workloads.contract.kinds import Role
from ixt_workloads.contract.trainer_pod import TrainerPod

PRODUCTS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name")
"""Labels by which the vendors' discovery names a node's GPUs."""


def trainer_pod(run: IXTRun, runtime: IXTRuntime, stage: str) -> TrainerPod | None:
    """What a pod of the stage's training has; None for a runtime that has no trainers."""
    if runtime.spec.role(Role.TRAINER) is None:
        return None
    spec = merged_template(run, runtime, Role.TRAINER)["spec"]
    own = next(each.train.resources_per_node for each in run.spec.stages if each.name == stage)
    resources = own.model_dump() if own else main_container(spec).get("resources") or {}
    selector = spec.get("nodeSelector") or {}
    memory = amount_of((resources.get("limits") or {}).get("memory", 0))
    return TrainerPod(
        gpus=gpus_of(resources),
        gpu=next((selector[label] for label in PRODUCTS if label in selector), None),
        memory_bytes=int(memory) or None,
    )
