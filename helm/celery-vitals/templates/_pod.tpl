{{/*
A probe of one exporter: (list context key path defaults).  The value of the key overrides the default, field by field; its
handler (httpGet, exec, ...) replaces the default handler.
*/}}
{{- define "celery-vitals.probe" -}}
{{- $own := omit (get (index . 0).Values (index . 1)) "enabled" -}}
{{- $default := merge (include "celery-vitals.probeHandler" (list (index . 0) (index . 2)) | fromYaml) (index . 3) (dict "timeoutSeconds" 5) -}}
{{- range list "httpGet" "exec" "tcpSocket" "grpc" -}}
{{- if hasKey $own . }}{{ $default = omit $default "httpGet" "exec" }}{{ end -}}
{{- end -}}
{{ index . 1 }}:
  {{- toYaml (mergeOverwrite $default $own) | nindent 2 }}
{{- end -}}

{{/* How a probe asks: (list context path).  A kubelet has no credentials: with web.auth the probe runs in the container. */}}
{{- define "celery-vitals.probeHandler" -}}
{{- $ := index . 0 -}}
{{- if $.Values.web.auth -}}
exec:
  command:
    - celery-vitals
    - healthy
    - --config.file=/etc/celery-vitals/config/config.yaml
{{- with $.Values.extraArgs }}
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- else -}}
httpGet:
  path: {{ index . 1 }}
  port: http
  scheme: {{ ternary "HTTPS" "HTTP" $.Values.web.tls }}
{{- end }}
{{- end -}}

{{- define "celery-vitals.env" -}}
{{- range $name, $one := include "celery-vitals.connections" . | fromYaml }}
{{- with get $.Values $name }}
{{- if .passwordSecret }}
- name: {{ $one.password }}
  valueFrom:
    secretKeyRef:
      name: {{ .passwordSecret }}
      key: {{ .passwordSecretKey }}
- name: CELERY_VITALS_{{ $one.option | upper | replace "-" "_" }}
  value: {{ .url | replace "$(PASSWORD)" (printf "$(%s)" $one.password) | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "celery-vitals.secretSources" -}}
{{- range $name, $one := include "celery-vitals.connections" . | fromYaml }}
{{- with get $.Values $name }}
{{- if or .existingSecret (and .url (not .passwordSecret)) }}
- secret:
    name: {{ default (include "celery-vitals.fullname" $) .existingSecret }}
    items:
      - key: {{ ternary .existingSecretKey $one.option (not (empty .existingSecret)) }}
        path: {{ $one.option }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "celery-vitals.volumes" -}}
- name: config
  configMap:
    name: {{ include "celery-vitals.fullname" . }}
- name: tmp
  emptyDir:
    sizeLimit: 16Mi
{{- with include "celery-vitals.secretSources" . | trim }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- with .Values.brokerTls.existingSecret }}
- name: broker-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.web.existingSecret }}
- name: web
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.state.existingClaim }}
- name: state
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "celery-vitals.mounts" -}}
- name: config
  mountPath: /etc/celery-vitals/config
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if include "celery-vitals.secretSources" . | trim }}
- name: secrets
  mountPath: /etc/celery-vitals/secrets
  readOnly: true
{{- end }}
{{- if .Values.brokerTls.existingSecret }}
- name: broker-tls
  mountPath: /etc/celery-vitals/broker-tls
  readOnly: true
{{- end }}
{{- if .Values.web.existingSecret }}
- name: web
  mountPath: /etc/celery-vitals/web
  readOnly: true
{{- end }}
{{- if .Values.state.existingClaim }}
- name: state
  mountPath: /var/lib/celery-vitals
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "celery-vitals.pod" -}}
metadata:
  labels:
    {{- include "celery-vitals.labels" (list . .Values.podLabels) | nindent 4 }}
  annotations:
    checksum/config: {{ printf "%s%s" (include "celery-vitals.config" .) (include "celery-vitals.secretData" .) | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "celery-vitals.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with include "celery-vitals.imagePullSecrets" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" "dnsPolicy" "dnsConfig" "hostAliases" "initContainers" }}
  {{- with get $.Values $key }}
  {{ $key }}: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: celery-vitals
      image: {{ include "celery-vitals.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [celery-vitals]
      args:
        - serve
        - --config.file=/etc/celery-vitals/config/config.yaml
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with include "celery-vitals.env" . | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.web.port }}
      # Independent of the broker: an outage must not restart the exporter that reports it.
      {{- if (.Values.livenessProbe | default dict).enabled }}
      {{- include "celery-vitals.probe" (list . "livenessProbe" "/-/healthy" (dict "initialDelaySeconds" 10 "failureThreshold" 6)) | nindent 6 }}
      {{- end }}
      {{- if (.Values.readinessProbe | default dict).enabled }}
      {{- include "celery-vitals.probe" (list . "readinessProbe" "/-/ready" dict) | nindent 6 }}
      {{- end }}
      {{- if (.Values.startupProbe | default dict).enabled }}
      {{- include "celery-vitals.probe" (list . "startupProbe" "/-/healthy" (dict "periodSeconds" 2 "failureThreshold" 30)) | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        {{- include "celery-vitals.mounts" . | nindent 8 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "celery-vitals.volumes" . | nindent 4 }}
{{- end -}}
