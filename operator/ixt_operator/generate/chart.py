"""The chart's generated templates: `python -m ixt_operator.generate.chart charts/ixt-operator`.

CRDs and runtimes are defined in Python; the chart's files are made from that and never edited.
"""

import sys
from pathlib import Path

from pydantic.alias_generators import to_camel

from ixt_operator.generate.crd import crds
from ixt_operator.manifests.documents import dump
from ixt_operator.render.builtin_runtimes import BUILTIN_RUNTIMES, Limits

CRD = """\
metadata:
  labels: {{- include "ixt.labels" . | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
"""
"""Metadata of a CRD. It is kept when the chart is uninstalled, since its objects would be deleted with it."""

RUNTIME = """\
metadata:
  {{- include "ixt.runtimeMetadata" . | nindent 2 }}
"""

IMAGE = "<image>"
"""Stands in a runtime in place of the image, which the chart's values name; limits have names of the same
kind."""


def templates() -> dict[str, str]:
    """The generated templates, by their path in the chart's folder `templates`."""
    found = {f"crds/{file}": _template(text, ".Values.crds.install", CRD) for file, text in crds().items()}
    for name, runtime in BUILTIN_RUNTIMES.items():
        model = runtime(IMAGE, Limits(*(f"<{field}>" for field in Limits._fields)))
        fields = dump(model.model_dump(mode="json", exclude_defaults=True))
        text = f"apiVersion: {model.api_version}\nkind: {model.kind}\n{fields}"
        value = f'{{{{ include "ixt.image" (list . .Values.runtimes.{name}.image) | quote }}}}'
        text = text.replace(IMAGE, value)
        for field in Limits._fields:
            limit = f".Values.runtimes.{name}.limits.{to_camel(field)}"
            text = text.replace(f"<{field}>", f"{{{{ {limit} | quote }}}}")
        found[f"runtimes/{name}.yaml"] = _template(text, f".Values.runtimes.{name}.install", RUNTIME)
    return found


def _template(text: str, condition: str, metadata: str) -> str:
    body = text.replace("metadata:\n", metadata, 1)
    return f"{{{{- /* Generated: make crds */ -}}}}\n{{{{- if {condition} }}}}\n{body}{{{{- end }}}}\n"


if __name__ == "__main__":
    for path, text in templates().items():
        file = Path(sys.argv[1], "templates", path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
