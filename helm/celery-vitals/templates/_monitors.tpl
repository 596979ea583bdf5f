{{/* The scrape endpoint of one exporter, for a ServiceMonitor or PodMonitor. */}}
{{- define "celery-vitals.endpoint" -}}
{{- $s := .Values.scrape -}}
port: http
path: {{ .Values.web.telemetryPath }}
scheme: {{ ternary "https" "http" .Values.web.tls }}
{{- with $s.interval }}
interval: {{ . }}
{{- end }}
{{- with $s.timeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with $s.tlsConfig }}
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
{{- with $s.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $s.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
