{{/* The name of the chart. */}}
{{- define "celery-vitals.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of objects of the release; of an exporter's objects in a release with several clusters, theirs is added. */}}
{{- define "celery-vitals.fullname" -}}
{{- $name := include "celery-vitals.name" . -}}
{{- $full := default (ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name)) .Values.fullnameOverride -}}
{{- with .cluster -}}
{{- printf "%s-%s" ($full | trunc 40 | trimSuffix "-") . | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $full | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods. */}}
{{- define "celery-vitals.selector" -}}
app.kubernetes.io/name: {{ include "celery-vitals.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- with .cluster }}
celery_cluster: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "celery-vitals.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "celery-vitals.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name, namespace, labels and annotations of an object: (list context suffix labels annotations namespace). */}}
{{- define "celery-vitals.metadata" -}}
{{- $ := index . 0 -}}
name: {{ include "celery-vitals.fullname" $ }}{{ index . 1 }}
namespace: {{ default $.Release.Namespace (index . 4) }}
labels:
  {{- include "celery-vitals.labels" $ | nindent 2 }}
  {{- with index . 2 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 3) $.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "celery-vitals.serviceAccountName" -}}
{{- default (ternary (include "celery-vitals.fullname" (omit . "cluster")) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "celery-vitals.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}
{{- with $image.digest }}@{{ . }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/*
The exporters of the release, as JSON of {items: [{cluster, Values}]}: one without `clusters`, else one for each of them.
A cluster's values are laid over those of the release, one level deep; a connection that it names is its own alone.
*/}}
{{- define "celery-vitals.exporters" -}}
{{- $items := list -}}
{{- range .Values.clusters -}}
{{- $values := omit (deepCopy $.Values) "clusters" -}}
{{- range $key, $value := omit . "name" -}}
{{- if kindIs "map" $value -}}
{{- $own := omit (get $values $key | default dict) "url" "existingSecret" "passwordSecret" -}}
{{- range $name, $one := $value -}}{{- $_ := set $own $name $one -}}{{- end -}}
{{- $_ := set $values $key $own -}}
{{- else -}}
{{- $_ := set $values $key $value -}}
{{- end -}}
{{- end -}}
{{- $items = append $items (dict "cluster" .name "Values" $values) -}}
{{- else -}}
{{- $items = list (dict "cluster" "" "Values" .Values) -}}
{{- end -}}
{{- dict "items" $items | toJson -}}
{{- end -}}

