{{/* What a schema cannot say in words: values of one exporter that do not go together. */}}
{{- define "celery-vitals.check" -}}
{{- $v := .Values -}}
{{- $at := ternary "" (printf "clusters: %s: " .cluster) (empty .cluster) -}}
{{- range $name, $_ := include "celery-vitals.connections" . | fromYaml -}}
{{- $given := get $v $name -}}
{{- if and $given.url $given.existingSecret -}}
{{- fail (printf "%s%s.url and %s.existingSecret are both set: keep the one that you mean" $at $name $name) -}}
{{- end -}}
{{- if and $given.passwordSecret $given.existingSecret -}}
{{- fail (printf "%s%s.passwordSecret goes with %s.url: a URL in %s.existingSecret holds its password itself" $at $name $name $name) -}}
{{- end -}}
{{- if and $given.passwordSecret (not (contains "$(PASSWORD)" (default "" $given.url))) -}}
{{- fail (printf "%s%s.passwordSecret is set, but %s.url has no $(PASSWORD) in the password's place" $at $name $name) -}}
{{- end -}}
{{- if and (contains "$(PASSWORD)" (default "" $given.url)) (not $given.passwordSecret) -}}
{{- fail (printf "%s%s.url has $(PASSWORD) in it, but %s.passwordSecret is not set" $at $name $name) -}}
{{- end -}}
{{- if and $given.url (not (contains "://" $given.url)) -}}
{{- fail (printf "%s%s.url is not a URL: it has no scheme, such as redis:// or amqp://" $at $name) -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range $v.extraEnv }}{{ $names = append $names .name }}{{ end -}}
{{- $elsewhere := or $v.app $v.extraEnvFrom $v.extraArgs (hasKey $v.config "broker-url-file") (has "CELERY_VITALS_BROKER_URL" $names) (has "CELERY_VITALS_BROKER_URL_FILE" $names) (has "CELERY_VITALS_APP" $names) -}}
{{- if not (or $v.broker.url $v.broker.existingSecret $elsewhere) -}}
{{- fail (printf "%sno broker: set broker.existingSecret to the name of a Secret that holds its URL, or broker.url, or app" $at) -}}
{{- end -}}
{{- range list "broker-url" "result-backend" "rabbitmq-management-url" -}}
{{- if hasKey $v.config . -}}
{{- fail (printf "%sconfig: %s may hold a password and does not belong into a ConfigMap: use broker, resultBackend or rabbitmqManagement" $at .) -}}
{{- end -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled -}}
{{- fail "serviceMonitor.enabled and podMonitor.enabled are both true: everything would be scraped twice" -}}
{{- end -}}
{{- if and (or $v.web.tls $v.web.auth) (not $v.web.existingSecret) -}}
{{- fail (printf "%sweb.tls and web.auth say what is in web.existingSecret, which is not set" $at) -}}
{{- end -}}
{{- if and $v.scrape.basicAuthSecret (not $v.web.auth) -}}
{{- fail (printf "%sscrape.basicAuthSecret is set, but web.auth is not: the probes would be turned away" $at) -}}
{{- end -}}
{{- end -}}

{{/* Two clusters of one name would be one object. */}}
{{- define "celery-vitals.checkClusters" -}}
{{- $seen := list -}}
{{- range .Values.clusters -}}
{{- if has .name $seen }}{{ fail (printf "clusters: %s is there twice" .name) }}{{ end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- end -}}

{{/* Names in prometheusRule that no rule has. */}}
{{- define "celery-vitals.checkRules" -}}
{{- $r := .Values.prometheusRule -}}
{{- $names := list -}}
{{- range (index . "rules").groups }}{{ range .rules }}{{ $names = append $names (default .record .alert) }}{{ end }}{{ end -}}
{{- range concat $r.disabled (keys $r.overrides) -}}
{{- if not (has . $names) }}{{ fail (printf "prometheusRule: there is no alert or recorded series %s" .) }}{{ end -}}
{{- end -}}
{{- range keys $r.thresholds -}}
{{- $name := printf "celery_vitals:threshold:%s" . -}}
{{- if not (has $name $names) }}{{ fail (printf "prometheusRule.thresholds: there is no threshold %s" .) }}{{ end -}}
{{- end -}}
{{- end -}}
