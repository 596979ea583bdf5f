{{/*
Name, namespace, labels and annotations of a monitor: (list context monitor), where monitor is serviceMonitor or podMonitor.
*/}}
{{- define "celery-vitals.monitorMetadata" -}}
{{- $m := get (index . 0).Values (index . 1) -}}
{{- include "celery-vitals.metadata" (list (index . 0) "" (merge (dict) ($m.additionalLabels | default dict) ($m.labels | default dict)) $m.annotations $m.namespace) -}}
{{- end -}}

{{/* The namespaces in which a monitor selects: (list context monitor). */}}
{{- define "celery-vitals.namespaceSelector" -}}
{{- $ := index . 0 -}}
{{- $m := get $.Values (index . 1) -}}
{{- toYaml (default (dict "matchNames" (list (include "celery-vitals.namespace" $))) $m.namespaceSelector) -}}
{{- end -}}

{{/*
The scrape endpoint of one exporter: (list context monitor).  `scrape` is more specific than the monitor, because a cluster
may override it.
*/}}
{{- define "celery-vitals.endpoint" -}}
{{- $m := get (index . 0).Values (index . 1) -}}
{{- with index . 0 -}}
{{- $s := .Values.scrape -}}
port: http
path: {{ .Values.web.telemetryPath }}
scheme: {{ ternary "https" "http" .Values.web.tls }}
{{- with default $m.interval $s.interval }}
interval: {{ . }}
{{- end }}
{{- with default $m.scrapeTimeout $s.timeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- if $m.honorLabels }}
honorLabels: true
{{- end }}
{{- with default $m.tlsConfig $s.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $s.basicAuthSecret }}
basicAuth:
  username:
    name: {{ $s.basicAuthSecret }}
    key: {{ $s.basicAuthUsernameKey }}
  password:
    name: {{ $s.basicAuthSecret }}
    key: {{ $s.basicAuthPasswordKey }}
{{- end }}
{{- with concat ($m.relabelings | default list) ($s.relabelings | default list) }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat ($m.metricRelabelings | default list) ($s.metricRelabelings | default list) }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}
