{{/* The name of the chart. */}}
{{- define "celery-vitals.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of the objects of the release, followed by the cluster's name for the objects of one cluster. */}}
{{- define "celery-vitals.fullname" -}}
{{- $name := include "celery-vitals.name" . -}}
{{- $full := default (ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name)) .Values.fullnameOverride -}}
{{- with .cluster -}}
{{- printf "%s-%s" ($full | trunc 40 | trimSuffix "-") . | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $full | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The namespace of the objects. */}}
{{- define "celery-vitals.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* Selector labels of the pods. */}}
{{- define "celery-vitals.selector" -}}
app.kubernetes.io/name: {{ include "celery-vitals.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- with .cluster }}
celery_cluster: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Selector labels of the pods of `helm test`. */}}
{{- define "celery-vitals.testSelector" -}}
app.kubernetes.io/name: {{ include "celery-vitals.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of an object: (list context labels).  No label is duplicated, and none overrides a selector label. */}}
{{- define "celery-vitals.labels" -}}
{{- $ := index . 0 -}}
{{- $own := include "celery-vitals.selector" $ | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_") -}}
{{- $_ := set $own "app.kubernetes.io/version" $.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $.Release.Service -}}
{{- toYaml (merge $own (index . 1 | default dict) ($.Values.commonLabels | default dict)) -}}
{{- end -}}

{{/* Name, namespace, labels and annotations of an object: (list context suffix labels annotations namespace). */}}
{{- define "celery-vitals.metadata" -}}
{{- $ := index . 0 -}}
name: {{ include "celery-vitals.fullname" $ }}{{ index . 1 }}
namespace: {{ default (include "celery-vitals.namespace" $) (index . 4) }}
labels:
  {{- include "celery-vitals.labels" (list $ (index . 2)) | nindent 2 }}
{{- with merge (dict) (index . 3) ($.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "celery-vitals.serviceAccountName" -}}
{{- default (ternary (include "celery-vitals.fullname" (omit . "cluster")) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "celery-vitals.image" -}}
{{- $image := .Values.image -}}
{{- with default $image.registry (.Values.global | default dict).imageRegistry }}{{ . }}/{{ end -}}
{{ $image.repository }}
{{- with $image.digest }}@{{ . }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/* Pull secrets of the release and of `global`, each a name or name: NAME. */}}
{{- define "celery-vitals.imagePullSecrets" -}}
{{- $found := list -}}
{{- range concat ((.Values.global | default dict).imagePullSecrets | default list) (.Values.imagePullSecrets | default list) -}}
{{- $found = append $found (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with uniq $found -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/*
The exporters of the release, as JSON of {items: [{cluster, Values}]}: one without `clusters`, otherwise one per cluster.
The values of a cluster override those of the release, one level deep; a connection is overridden as a whole.
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

