{{/* Combinations of values of one exporter that a JSON schema cannot reject with a clear message. */}}
{{- define "celery-vitals.check" -}}
{{- $v := .Values -}}
{{- $at := ternary "" (printf "clusters: %s: " .cluster) (empty .cluster) -}}
{{- range $name, $_ := include "celery-vitals.connections" . | fromYaml -}}
{{- $given := get $v $name -}}
{{- if and $given.url $given.existingSecret -}}
{{- fail (printf "%s%s.url and %s.existingSecret are both set: keep one of them" $at $name $name) -}}
{{- end -}}
{{- if and $given.passwordSecret $given.existingSecret -}}
{{- fail (printf "%s%s.passwordSecret requires %s.url: the URL in %s.existingSecret contains its password" $at $name $name $name) -}}
{{- end -}}
{{- if and $given.passwordSecret (not (contains "$(PASSWORD)" (default "" $given.url))) -}}
{{- fail (printf "%s%s.passwordSecret is set, but %s.url has no $(PASSWORD) in place of the password" $at $name $name) -}}
{{- end -}}
{{- if and (contains "$(PASSWORD)" (default "" $given.url)) (not $given.passwordSecret) -}}
{{- fail (printf "%s%s.url contains $(PASSWORD), but %s.passwordSecret is not set" $at $name $name) -}}
{{- end -}}
{{- if and $given.url (not (contains "://" $given.url)) -}}
{{- fail (printf "%s%s.url is not a URL: no scheme (expected one such as redis:// or amqp://)" $at $name) -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range $v.extraEnv }}{{ $names = append $names .name }}{{ end -}}
{{- $elsewhere := or $v.app $v.extraEnvFrom $v.extraArgs (hasKey $v.config "broker-url-file") (has "CELERY_VITALS_BROKER_URL" $names) (has "CELERY_VITALS_BROKER_URL_FILE" $names) (has "CELERY_VITALS_APP" $names) -}}
{{- if not (or $v.broker.url $v.broker.existingSecret $elsewhere) -}}
{{- fail (printf "%sno broker: set broker.existingSecret to the name of a Secret with its URL, or set broker.url or app" $at) -}}
{{- end -}}
{{- range list "broker-url" "result-backend" "rabbitmq-management-url" -}}
{{- if hasKey $v.config . -}}
{{- fail (printf "%sconfig: %s may contain a password and must not be in a ConfigMap: set broker, resultBackend or rabbitmqManagement instead" $at .) -}}
{{- end -}}
{{- end -}}
{{- if and $v.state.existingClaim (gt (int $v.replicaCount) 1) -}}
{{- fail (printf "%sstate.existingClaim is set, but replicaCount is %d: one pod may use it" $at (int $v.replicaCount)) -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled -}}
{{- fail "serviceMonitor.enabled and podMonitor.enabled are both true: every exporter would be scraped twice; disable one" -}}
{{- end -}}
{{- if and (or $v.web.tls $v.web.auth) (not $v.web.existingSecret) -}}
{{- fail (printf "%sweb.tls and web.auth describe the content of web.existingSecret, which is not set" $at) -}}
{{- end -}}
{{- if and $v.scrape.basicAuthSecret (not $v.web.auth) -}}
{{- fail (printf "%sscrape.basicAuthSecret is set, but web.auth is false: the probes would be rejected (401)" $at) -}}
{{- end -}}
{{- end -}}

{{/* Two clusters with the same name would be the same object. */}}
{{- define "celery-vitals.checkClusters" -}}
{{- $seen := list -}}
{{- range .Values.clusters -}}
{{- if has .name $seen }}{{ fail (printf "clusters: duplicate name %s" .name) }}{{ end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- end -}}

{{/* Names in prometheusRule without a rule. */}}
{{- define "celery-vitals.checkRules" -}}
{{- $r := .Values.prometheusRule -}}
{{- $names := list -}}
{{- range (index . "rules").groups }}{{ range .rules }}{{ $names = append $names (default .record .alert) }}{{ end }}{{ end -}}
{{- range concat $r.disabled (keys $r.overrides) -}}
{{- if not (has . $names) }}{{ fail (printf "prometheusRule: unknown alert or recording rule %s (docs/alerts.md lists them)" .) }}{{ end -}}
{{- end -}}
{{- range keys $r.thresholds -}}
{{- $name := printf "celery_vitals:threshold:%s" . -}}
{{- if not (has $name $names) }}{{ fail (printf "prometheusRule.thresholds: unknown threshold %s (docs/alerts.md lists them)" .) }}{{ end -}}
{{- end -}}
{{- end -}}
