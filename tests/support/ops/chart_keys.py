"""A value for every key of the chart, and the values with which the key has an effect."""

from __future__ import annotations

import copy
from typing import Any

from tools.chart.helm import Object

ON, OFF = {"enabled": True}, {"enabled": False}
RELABELING = [{"targetLabel": "env", "replacement": "test"}]
OTHER_RELABELING = [{"action": "labeldrop", "regex": "pod"}]
LABELS = {"example.org/some": "value"}
SIDECAR = [{"name": "sidecar", "image": "busybox"}]
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}

BASE: Object = {
    "broker": {"existingSecret": "celery"},
    "resultBackend": {"existingSecret": "celery"},
    "rabbitmqManagement": {"existingSecret": "celery"},
    **dict.fromkeys(("serviceMonitor", "networkPolicy", "podDisruptionBudget"), ON),
}
POD_MONITOR: Object = {"serviceMonitor": OFF, "podMonitor": ON}
URL: Object = {"existingSecret": "", "url": "redis://:$(PASSWORD)@redis/0", "passwordSecret": "p"}
TLS: Object = {"brokerTls": {"existingSecret": "tls"}}
WEB: Object = {"web": {"existingSecret": "web"}}
AUTH: Object = {
    "web": {"existingSecret": "web", "auth": True},
    "scrape": {"basicAuthSecret": "scraper"},
}

MONITORS = {"serviceMonitor": "targetLabels", "podMonitor": "podTargetLabels"}

# A value that differs from the default, for every key of values.yaml.
CHANGED: dict[str, Any] = {
    "nameOverride": "other",
    "fullnameOverride": "other",
    "namespaceOverride": "elsewhere",
    "commonLabels": LABELS,
    "commonAnnotations": LABELS,
    "global.imageRegistry": "global.example.org",
    "global.imagePullSecrets": ["global-secret"],
    "image.registry": "registry.example.org",
    "image.repository": "other/image",
    "image.tag": "9.9.9",
    "image.digest": "sha256:0123",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "pull-secret"}, "second-secret"],
    "replicaCount": 3,
    "strategy": {"type": "Recreate"},
    "revisionHistoryLimit": 7,
    **{
        f"{name}.{key}": value
        for name in ("broker", "resultBackend", "rabbitmqManagement")
        for key, value in {
            "url": "redis://other/0",
            "existingSecret": "other-secret",
            "existingSecretKey": "other-key",
            "passwordSecret": "other-password",
            "passwordSecretKey": "other-key",
        }.items()
    },
    "brokerTls.existingSecret": "tls",
    "brokerTls.caKey": "other-ca.crt",
    "brokerTls.certKey": "client.crt",
    "brokerTls.keyKey": "client.key",
    "app": "proj",
    "queues": ["orders"],
    "enableEvents": True,
    "eventQueue": "shared",
    "state.existingClaim": "vitals-state",
    "disabledCollectors": ["backend"],
    "workerTimeout": 77,
    "workerForgetAfter": 7777,
    "timeout": 7,
    "runtimeBuckets": [7, 77],
    "waitBuckets": [7, 77],
    "logLevel": "debug",
    "logFormat": "json",
    "config": {"max-task-names": 77},
    "extraArgs": ["--min-interval=7"],
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "tmp", "mountPath": "/more"}],
    "extraContainers": SIDECAR,
    "initContainers": SIDECAR,
    "clusters": [{"name": "shop"}, {"name": "mail"}],
    "web.existingSecret": "web-secret",
    "web.existingSecretKey": "other.yaml",
    "web.tls": True,
    "web.auth": True,
    "web.port": 7777,
    "web.telemetryPath": "/other",
    "scrape.interval": "77s",
    "scrape.timeout": "7s",
    "scrape.tlsConfig": {"serverName": "other"},
    "scrape.basicAuthSecret": "scraper",
    "scrape.basicAuthUsernameKey": "other-user",
    "scrape.basicAuthPasswordKey": "other-password",
    "scrape.relabelings": RELABELING,
    "scrape.metricRelabelings": RELABELING,
    "service.type": "NodePort",
    "service.annotations": LABELS,
    "service.labels": LABELS,
    "service.port": 9808,
    "serviceAccount.create": False,
    "serviceAccount.name": "other",
    "serviceAccount.annotations": LABELS,
    **{
        f"{monitor}.{key}": value
        for monitor, carried in MONITORS.items()
        for key, value in {
            "enabled": monitor == "podMonitor",
            "labels": LABELS,
            "additionalLabels": LABELS,
            "annotations": LABELS,
            "namespace": "monitoring",
            "interval": "77s",
            "scrapeTimeout": "7s",
            "tlsConfig": {"serverName": "other"},
            "relabelings": RELABELING,
            "metricRelabelings": RELABELING,
            "honorLabels": True,
            "jobLabel": "example.org/job",
            carried: ["example.org/team"],
            "namespaceSelector": {"any": True},
        }.items()
    },
    "prometheusRule.enabled": True,
    "prometheusRule.labels": LABELS,
    "prometheusRule.additionalLabels": LABELS,
    "prometheusRule.annotations": LABELS,
    "prometheusRule.namespace": "monitoring",
    "prometheusRule.alertLabels": LABELS,
    "prometheusRule.disabled": ["CeleryBrokerDown"],
    "prometheusRule.thresholds": {"task_failure_ratio": 0.77},
    "prometheusRule.overrides": {"CeleryBrokerDown": {"for": "77m"}},
    "prometheusRule.runbookUrl": "https://runbooks.example.org/{alert}",
    "dashboards.enabled": True,
    "dashboards.labels": LABELS,
    "dashboards.annotations": LABELS,
    "dashboards.namespace": "monitoring",
    "networkPolicy.enabled": False,
    "networkPolicy.ingressFrom": [{"podSelector": {}}],
    "networkPolicy.egressPorts": [7777],
    "networkPolicy.egressTo": [{"podSelector": {}}],
    "networkPolicy.extraEgress": [{"ports": [{"port": 777}]}],
    "podDisruptionBudget.enabled": False,
    "podDisruptionBudget.maxUnavailable": "77%",
    "resources": {"limits": {"memory": "77Mi"}},
    "podSecurityContext": {"fsGroup": 77},
    "securityContext": {"runAsUser": 77},
    "livenessProbe.enabled": False,
    "readinessProbe.enabled": False,
    "startupProbe.enabled": True,
    "podAnnotations": LABELS,
    "podLabels": LABELS,
    "priorityClassName": "important",
    "nodeSelector": LABELS,
    "tolerations": [{"key": "some", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "runtimeClassName": "gvisor",
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["10.0.0.10"], "options": [{"name": "ndots", "value": "2"}]},
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["redis"]}],
    "terminationGracePeriodSeconds": 77,
    "test.enabled": False,
    "extraObjects": [CONFIG_MAP],
    "extraManifests": [CONFIG_MAP],
}  # fmt: skip
# Other values that a key requires to have an effect.
GROUPS: dict[str, Object] = {
    "podMonitor": POD_MONITOR,
    "prometheusRule": {"prometheusRule": ON},
    "dashboards": {"dashboards": ON},
}
"""The same for all keys of a group."""
REQUIRED: dict[str, Object] = {
    **{
        f"{name}.{key}": {name: URL}
        for name in ("broker", "resultBackend", "rabbitmqManagement")
        for key in ("passwordSecret", "passwordSecretKey")
    },
    **{
        f"{name}.url": {name: {"existingSecret": "", "url": "redis://redis/0"}}
        for name in ("broker", "resultBackend", "rabbitmqManagement")
    },
    **{f"brokerTls.{key}": TLS for key in ("caKey", "certKey", "keyKey")},
    **{f"web.{key}": WEB for key in ("existingSecretKey", "tls", "auth")},
    **{f"scrape.basicAuth{key}Key": AUTH for key in ("Username", "Password")},
    "scrape.basicAuthSecret": {"web": AUTH["web"]},
    "podMonitor.enabled": {"serviceMonitor": OFF},
    "prometheusRule.enabled": {},
    "dashboards.enabled": {},
}


def nested(path: str, value: Any) -> Object:
    """Return values in which only one key is set."""
    for name in reversed(path.split(".")):
        value = {name: value}
    result: Object = value
    return result


def merged(*parts: Object) -> Object:
    """Return values in which later parts override earlier ones, key by key."""
    result: Object = {}
    for part in copy.deepcopy(parts):
        for key, value in part.items():
            known = result.get(key)
            both = isinstance(known, dict) and isinstance(value, dict)
            result[key] = merged(known or {}, value) if both else value
    return result


def base_of(path: str) -> Object:
    """Return values with which a key has an effect."""
    return merged(BASE, REQUIRED.get(path, GROUPS.get(path.partition(".")[0], {})))
