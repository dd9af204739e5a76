"""Devices by name: their peak FLOP/s, for the share of it that a training uses, and their memory."""

import math
import os
from typing import NamedTuple

from ixt_workloads.contract.exits import Exit, StepError

PEAK = "IXT_PEAK_FLOPS"
"""Variable with the FLOP/s of one device, for devices that the table does not have or has wrong."""


class Device(NamedTuple):
    """What one device can do."""

    flops: float
    """FLOP/s in bfloat16, dense."""
    gigabytes: int
    """Of memory, of the largest variant of that name."""


DEVICES = {
    # NVIDIA's data sheets: bfloat16 Tensor Cores without sparsity.
    "GB300": Device(2.5e15, 279),
    "GB200": Device(2.5e15, 186),
    "B300": Device(2.25e15, 279),
    "B200": Device(2.25e15, 180),
    "GH200": Device(9.9e14, 96),
    "H200 NVL": Device(8.35e14, 141),
    "H200": Device(9.89e14, 141),
    "H100 NVL": Device(8.35e14, 94),
    "H100 PCIe": Device(7.56e14, 80),
    "H800": Device(9.89e14, 80),
    "H100": Device(9.89e14, 80),
    "H20": Device(1.48e14, 96),
    "A100": Device(3.12e14, 80),
    "A800": Device(3.12e14, 80),
    "L40S": Device(3.62e14, 48),
    "L40": Device(1.81e14, 48),
    "L4": Device(1.21e14, 24),
    "A40": Device(1.497e14, 48),
    "A30": Device(1.65e14, 24),
    "A10G": Device(7.0e13, 24),
    "A10": Device(1.25e14, 24),
    # AMD's data sheets: bfloat16 matrix, without sparsity.
    "MI355X": Device(2.5e15, 288),
    "MI350X": Device(2.3e15, 288),
    "MI325X": Device(1.307e15, 256),
    "MI300X": Device(1.307e15, 192),
    "MI250X": Device(3.83e14, 64),
}
"""By a part of the name that the driver gives, the longer ones before those that they contain."""


def device_of(name: str) -> Device | None:
    """What is known of a device by its name; None for a slice of one, or one that nobody knows."""
    words = f" {name.replace('-', ' ')} "
    if " MIG " in words:
        return None
    return next((device for known, device in DEVICES.items() if f" {known} " in words), None)


def peak_of(device: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device by its name; None where nobody knows them, as of processors."""
    told = os.environ.get(PEAK)
    if told:
        peak = _number(told)
        if not 0 < peak < math.inf:
            raise StepError(Exit.USAGE, f"{PEAK} is {told!r}, no number above 0", "give FLOP/s, as 9.89e14")
        return peak
    known = device_of(device)
    return known.flops if known else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
