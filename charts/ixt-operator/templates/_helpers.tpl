{{- define "ixt.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Pods of the operator. Those of runs have the name ixt and are managed by ixt-operator. */ -}}
{{- define "ixt.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ixt.labels" -}}
{{ include "ixt.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Pods of all runs. */ -}}
{{- define "ixt.runSelector" -}}
app.kubernetes.io/name: ixt
{{- end }}

{{- /* Where the operator serves /metrics. */ -}}
{{- define "ixt.metricsPort" -}}
{{- ternary 8443 8080 .Values.metrics.secure.enabled }}
{{- end }}

{{- /* The Secret with the certificate of /metrics. */ -}}
{{- define "ixt.certificate" -}}
{{- default (printf "%s-metrics-tls" (include "ixt.fullname" .)) .Values.metrics.secure.certificateSecret }}
{{- end }}

{{- define "ixt.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "ixt.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: is required when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The image that a list of the root and an image's values names. */ -}}
{{- define "ixt.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- /*
Labels and annotations of a runtime. Helm asks the API server for the kinds of all objects before it creates the
first of them, so that on a cluster without the CRDs the runtimes must be a hook. Marked as the release's own they
are ordinary objects of it from the next upgrade on. Without a policy a hook is deleted before it is created.
*/ -}}
{{- define "ixt.runtimeMetadata" -}}
labels: {{- include "ixt.labels" . | nindent 2 }}
annotations:
  helm.sh/resource-policy: keep
  {{- if not (.Capabilities.APIVersions.Has "ixt.dev/v1alpha1/IXTRuntime") }}
  helm.sh/hook: post-install,post-upgrade
  helm.sh/hook-delete-policy: hook-failed
  meta.helm.sh/release-name: {{ .Release.Name }}
  meta.helm.sh/release-namespace: {{ .Release.Namespace }}
  {{- end }}
{{- end }}
