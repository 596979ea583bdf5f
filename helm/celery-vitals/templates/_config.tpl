{{/* The connections: value, option of the program, environment variable of the password. */}}
{{- define "celery-vitals.connections" -}}
broker: {option: broker-url, password: BROKER_PASSWORD}
resultBackend: {option: result-backend, password: RESULT_BACKEND_PASSWORD}
rabbitmqManagement: {option: rabbitmq-management-url, password: RABBITMQ_MANAGEMENT_PASSWORD}
{{- end -}}

{{/* The configuration file of one exporter. */}}
{{- define "celery-vitals.config" -}}
{{- $v := .Values -}}
{{- $config := dict "web.listen-address" (printf ":%d" (int $v.web.port)) "web.telemetry-path" $v.web.telemetryPath "log.level" $v.logLevel "log.format" $v.logFormat -}}
{{- range $name, $one := include "celery-vitals.connections" . | fromYaml -}}
{{- $given := get $v $name -}}
{{- if or $given.existingSecret (and $given.url (not $given.passwordSecret)) -}}
{{- $_ := set $config (printf "%s-file" $one.option) (printf "/etc/celery-vitals/secrets/%s" $one.option) -}}
{{- end -}}
{{- end -}}
{{- with $v.app }}{{ $_ := set $config "app" . }}{{ end -}}
{{- with $v.queues }}{{ $_ := set $config "queue" . }}{{ end -}}
{{- with $v.eventQueue }}{{ $_ := set $config "event-queue" . }}{{ end -}}
{{- if $v.state.existingClaim }}{{ $_ := set $config "state.file" "/var/lib/celery-vitals/state" }}{{ end -}}
{{- range $v.disabledCollectors }}{{ $_ := set $config (printf "collector.%s" .) false }}{{ end -}}
{{- range $key, $value := dict "enable-events" $v.enableEvents "worker-timeout" $v.workerTimeout "worker-forget-after" $v.workerForgetAfter "timeout" $v.timeout -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $config $key $value }}{{ end -}}
{{- end -}}
{{- with $v.runtimeBuckets }}{{ $_ := set $config "runtime-buckets" (join "," .) }}{{ end -}}
{{- with $v.waitBuckets }}{{ $_ := set $config "wait-buckets" (join "," .) }}{{ end -}}
{{- if $v.web.existingSecret -}}
{{- $_ := set $config "web.config.file" (printf "/etc/celery-vitals/web/%s" $v.web.existingSecretKey) -}}
{{- end -}}
{{- if $v.brokerTls.existingSecret -}}
{{- $tls := dict -}}
{{- range $key, $option := dict "caKey" "ca_certs" "certKey" "certfile" "keyKey" "keyfile" -}}
{{- with get $v.brokerTls $key }}{{ $_ := set $tls $option (printf "/etc/celery-vitals/broker-tls/%s" .) }}{{ end -}}
{{- end -}}
{{- $_ := set $config "broker-ssl-option" $tls -}}
{{- end -}}
{{- range $key, $value := $v.config -}}
{{- if hasKey $config $key -}}
{{- fail (printf "config: %s must be set by its own value of the chart (see its README)" $key) -}}
{{- end -}}
{{- $_ := set $config $key $value -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The URLs that the chart stores in a Secret of the release. */}}
{{- define "celery-vitals.secretData" -}}
{{- range $name, $one := include "celery-vitals.connections" . | fromYaml -}}
{{- $given := get $.Values $name -}}
{{- if and $given.url (not $given.passwordSecret) }}
{{ $one.option }}: {{ $given.url | b64enc }}
{{- end -}}
{{- end -}}
{{- end -}}
