"""How many GPUs this process may use."""

from ixt_workloads.contract.base import AUTO, Gpus


def counted(wanted: Gpus) -> int:
    """A number of GPUs; Auto stands for those that are here."""
    return here() if wanted == AUTO else int(wanted)


def here() -> int:
    """GPUs that this process sees, which in a pod are those that it asked for; 1 without any."""
    import torch

    return max(1, torch.cuda.device_count())
