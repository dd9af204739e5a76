"""The Secret with a run's own API key, which its servers ask their clients for. Pure: without the key."""

from ixt_operator.api.run import IXTRun
from ixt_operator.render.names import Object, metadata_of_run, name_of_run

API_KEY = "apiKey"
"""Entry of the Secret."""


def secret_name(run: IXTRun) -> str:
    """Name of the Secret."""
    return name_of_run(run, "api-key")


def secret(run: IXTRun) -> Object:
    """The Secret as it is created, but for its key: that is drawn by whoever creates it, once, and read by
    nobody but the run's pods."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata_of_run(run, secret_name(run)),
        "immutable": True,
        "type": "Opaque",
    }
