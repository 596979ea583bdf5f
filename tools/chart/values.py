"""The schema and the README of the chart, generated from values.yaml and its comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from celery_vitals.settings.click_options import all_options
from tools.base import Files, Generator
from tools.chart.helm import CHART

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": ["number", "null"], "exclusiveMinimum": 0}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
NAMED: Schema = {"type": "object", "required": ["name"], "properties": {"name": TEXT}}
PULL_SECRETS: Schema = {"items": {"anyOf": [NAMED, TEXT]}}
OBJECTS: Schema = {"items": {"type": "object"}}
_SECONDS = ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold")
_OTHER = ("successThreshold", "terminationGracePeriodSeconds")
HANDLERS = ("httpGet", "exec", "tcpSocket", "grpc")
PROBE: Schema = {
    "properties": {
        "enabled": {"type": "boolean"},
        **{name: {"type": "integer", "minimum": 0} for name in (*_SECONDS, *_OTHER)},
        **{name: {"type": "object"} for name in HANDLERS},
    },
}
RULE: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "expr": TEXT, "for": TEXT, "keep_firing_for": TEXT, "labels": TEXTS, "annotations": TEXTS,
    },
}  # fmt: skip
NAMESPACES: Schema = {
    "additionalProperties": False,
    "properties": {"any": {"type": "boolean"}, "matchNames": {"type": "array", "items": TEXT}},
}
COLLECTORS = ("broker", "backend", "workers", "queues", "tasks")

# Constraints that do not follow from the type of the default.  No pattern for a value that may
# hold a password: Helm's error message quotes the value.
MORE: dict[str, Schema] = {
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": PULL_SECRETS,
    "global": {"additionalProperties": True},
    "global.imagePullSecrets": PULL_SECRETS,
    "strategy": {"properties": {"type": {"enum": ["Recreate", "RollingUpdate"]}}},
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "startupProbe": PROBE,
    "dnsPolicy": {"enum": ["", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]},
    "hostAliases": OBJECTS,
    "serviceMonitor.namespaceSelector": NAMESPACES,
    "podMonitor.namespaceSelector": NAMESPACES,
    "serviceMonitor.targetLabels": {"items": TEXT},
    "podMonitor.podTargetLabels": {"items": TEXT},
    "extraContainers": {"items": NAMED},
    "initContainers": {"items": NAMED},
    "replicaCount": {"minimum": 0},
    "app": {"type": ["string", "null"]},
    "eventQueue": {"type": ["string", "null"]},
    "enableEvents": {"type": ["boolean", "null"]},
    "queues": {"items": TEXT},
    "disabledCollectors": {"items": {"enum": COLLECTORS}},
    "workerTimeout": NUMBER,
    "workerForgetAfter": NUMBER,
    "timeout": NUMBER,
    "runtimeBuckets": {"items": {"type": "number", "exclusiveMinimum": 0}},
    "waitBuckets": {"items": {"type": "number", "exclusiveMinimum": 0}},
    "logLevel": {"enum": ["debug", "info", "warning", "error"]},
    "logFormat": {"enum": ["logfmt", "json"]},
    "extraArgs": {"items": TEXT},
    "extraEnv": {"items": NAMED},
    "extraEnvFrom": {"items": {"type": "object"}},
    "extraVolumes": {"items": NAMED},
    "extraVolumeMounts": {"items": NAMED},
    "extraObjects": {"items": {"type": ["object", "string"]}},
    "extraManifests": {"items": {"type": ["object", "string"]}},
    "web.port": PORT,
    "web.telemetryPath": {"pattern": "^/"},
    "service.port": {**PORT, "type": ["integer", "null"]},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "prometheusRule.thresholds": {"additionalProperties": {"type": "number"}},
    "prometheusRule.overrides": {"additionalProperties": RULE},
    "prometheusRule.disabled": {"items": TEXT},
    "networkPolicy.egressPorts": {"items": PORT, "minItems": 1},
    "networkPolicy.ingressFrom": {"items": {"type": "object"}},
    "networkPolicy.egressTo": {"items": {"type": "object"}},
    "networkPolicy.extraEgress": {"items": {"type": "object"}},
    "podDisruptionBudget.maxUnavailable": {"type": ["integer", "string"]},
    "terminationGracePeriodSeconds": {"minimum": 2},
}
LABELS = ("commonLabels", "commonAnnotations", "podAnnotations", "podLabels", "nodeSelector")
TEXT_MAPS = (".labels", ".additionalLabels", ".annotations", ".alertLabels")
# Objects of Kubernetes, which validates them itself.
OPEN = (
    "resources", "podSecurityContext", "securityContext", "affinity", "scrape.tlsConfig",
    "serviceMonitor.tlsConfig", "podMonitor.tlsConfig", "strategy", "dnsConfig",
)  # fmt: skip
# Values that each entry of `clusters` may override.
OVERRIDABLE = (
    "broker", "resultBackend", "rabbitmqManagement", "brokerTls", "app", "queues", "enableEvents",
    "eventQueue", "state", "disabledCollectors", "workerTimeout", "workerForgetAfter", "timeout",
    "runtimeBuckets", "waitBuckets", "logLevel", "logFormat", "config", "extraArgs", "extraEnv",
    "extraEnvFrom", "extraVolumes", "extraVolumeMounts", "resources", "web", "scrape",
    "replicaCount",
)  # fmt: skip

_TYPES = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object"}


def entries() -> Iterator[tuple[str, str]]:
    """Yield path and comment of every documented value, in the order of the file."""
    stack: list[tuple[int, str]] = []
    comment = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        documented = re.match(r"\s*# -- (.*)", line)
        key = re.match(r"(\s*)([A-Za-z]\w*):", line)
        if documented:
            comment = documented.group(1)
        elif key:
            depth = len(key.group(1))
            stack = [*(one for one in stack if one[0] < depth), (depth, key.group(2))]
            if comment:
                yield ".".join(name for _, name in stack), comment
            comment = ""


def defaults() -> dict[str, Any]:
    """Read the default values of the chart."""
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return values


def schema() -> str:
    """Return the text of values.schema.json."""
    comments = dict(entries())
    properties = {name: _of(name, default, comments) for name, default in defaults().items()}
    properties["config"] |= {
        "properties": {key: {} for key in file_keys()},
        "additionalProperties": False,
    }
    overrides = {name: {"$ref": f"#/properties/{name}"} for name in OVERRIDABLE}
    name = {
        "type": "string",
        "pattern": "^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$",
        "description": "Its name.",
    }
    cluster = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": name, **overrides},
        "additionalProperties": False,
    }
    properties["clusters"] |= {"items": cluster}
    whole = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of celery-vitals",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return json.dumps(whole, indent=2) + "\n"


def file_keys() -> list[str]:
    """Return the keys of the program's configuration file."""
    return [option.key for option in all_options() if option.in_file]


def _of(path: str, default: Any, comments: Mapping[str, str]) -> Schema:
    found: Schema = {"description": comments[path]} if path in comments else {}
    if default is not None:
        found["type"] = _TYPES[type(default)]
    if isinstance(default, dict) and path not in OPEN:
        inner = path in LABELS or path.endswith(TEXT_MAPS)
        if inner:
            found |= TEXTS
        elif default:
            found["properties"] = {
                key: _of(f"{path}.{key}", value, comments) for key, value in default.items()
            }
            found["additionalProperties"] = False
    return found | MORE.get(path, {})


README = """\
# celery-vitals

Generated from `values.yaml`; do not edit. Requires Kubernetes 1.25 or later.

The image is published nowhere yet: build it from the source tree and push it to the registry that
your nodes pull from.

    docker build --tag registry.example.org/celery-vitals:VERSION .
    docker push registry.example.org/celery-vitals:VERSION

`VERSION` is the chart's appVersion, or set `image.tag`. One more value is required. With a Secret
that contains the broker's URL:

    kubectl create secret generic celery --from-literal=broker-url=redis://:PASSWORD@redis:6379/0
    helm install celery-vitals helm/celery-vitals --set broker.existingSecret=celery \\
        --set image.registry=registry.example.org

`docs/chart.md` describes further values, the image, TLS and several clusters; `ci/` has complete
value files. An invalid value is refused before the installation, with a message that names it.

## Values

| Value | Default | Meaning |
|---|---|---|
"""


def readme() -> str:
    """Return the text of the chart's README."""
    return README + "".join(
        f"| `{path}` | `{_shown(path)}` | {words} |\n" for path, words in entries()
    )


def _shown(path: str) -> str:
    value: Any = defaults()
    for name in path.split("."):
        value = value[name]
    return json.dumps(value)


def files() -> Files:
    """Return the files that follow from values.yaml."""
    return {CHART / "values.schema.json": schema(), CHART / "README.md": readme()}


GENERATOR = Generator("chart values", files)
