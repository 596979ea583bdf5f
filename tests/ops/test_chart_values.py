"""Wrong values for the chart: each is rejected by a message with the value and the reason."""

from __future__ import annotations

from typing import Any

import helm_python as helm
import pytest

from tools.chart.helm import notes, texts

SECRET = {"broker": {"existingSecret": "celery"}}
CLUSTER = {"name": "shop", **SECRET}

REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no broker": ({}, ("no broker", "broker.existingSecret", "broker.url")),
    "url and existingSecret": (
        {"broker": {"url": "redis://redis/0", "existingSecret": "celery"}},
        ("broker.url and broker.existingSecret are both set", "keep one"),
    ),
    "both for the backend": (
        {**SECRET, "resultBackend": {"url": "redis://redis/0", "existingSecret": "celery"}},
        ("resultBackend.url and resultBackend.existingSecret are both set",),
    ),
    "url without a scheme": (
        {"broker": {"url": "redis:6379"}},
        ("broker.url is not a URL", "no scheme"),
    ),
    "password without its place": (
        {"broker": {"url": "redis://redis/0", "passwordSecret": "celery"}},
        ("broker.passwordSecret is set", "no $(PASSWORD)"),
    ),
    "place without a password": (
        {"broker": {"url": "redis://:$(PASSWORD)@redis/0"}},
        ("broker.passwordSecret is not set",),
    ),
    "password of a whole URL": (
        {"broker": {"existingSecret": "celery", "passwordSecret": "celery"}},
        ("broker.passwordSecret requires",),
    ),
    "port as text": (
        {**SECRET, "web": {"port": "9000"}},
        ("/web/port", "got string, want integer"),
    ),
    "port too high": ({**SECRET, "web": {"port": 65536}}, ("/web/port", "maximum")),
    "unknown value": (
        {**SECRET, "brokerURL": "x"},
        ("additional properties 'brokerURL' not allowed",),
    ),
    "unknown inside": (
        {"broker": {"secret": "x"}},
        ("/broker", "additional properties 'secret' not allowed"),
    ),
    "unknown option": (
        {**SECRET, "config": {"worker-timout": 5}},
        ("/config", "'worker-timout' not allowed"),
    ),
    "option with a value of its own": (
        {**SECRET, "config": {"log.level": "debug"}},
        ("config: log.level", "README"),
    ),
    "URL in the ConfigMap": (
        {**SECRET, "config": {"result-backend": "redis://x"}},
        ("result-backend may contain",),
    ),
    "log level": (
        {**SECRET, "logLevel": "loud"},
        ("/logLevel", "'debug', 'info', 'warning', 'error'"),
    ),
    "collector": (
        {**SECRET, "disabledCollectors": ["beat"]},
        ("/disabledCollectors/0", "'broker'"),
    ),
    "seconds as text": ({**SECRET, "workerTimeout": "90s"}, ("/workerTimeout", "got string")),
    "switch as text": (
        {**SECRET, "serviceMonitor": {"enabled": "true"}},
        ("/serviceMonitor/enabled", "want boolean"),
    ),
    "both monitors": (
        {**SECRET, "serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
        ("scraped twice",),
    ),
    "TLS without a web configuration": (
        {**SECRET, "web": {"tls": True}},
        ("web.existingSecret", "not set"),
    ),
    "credentials for an open endpoint": (
        {**SECRET, "scrape": {"basicAuthSecret": "x"}},
        ("scrape.basicAuthSecret is set", "web.auth is false"),
    ),
    "alert that is none": (
        {**SECRET, "prometheusRule": {"enabled": True, "disabled": ["CeleryNap"]}},
        ("unknown alert", "CeleryNap"),
    ),
    "threshold that is none": (
        {**SECRET, "prometheusRule": {"enabled": True, "thresholds": {"nap": 1}}},
        ("unknown threshold nap",),
    ),
    "threshold as text": (
        {**SECRET, "prometheusRule": {"thresholds": {"x": "1"}}},
        ("/prometheusRule/thresholds/x", "want number"),
    ),
    "cluster without a name": ({"clusters": [SECRET]}, ("/clusters/0", "missing property 'name'")),
    "cluster without a broker": ({"clusters": [{"name": "shop"}]}, ("clusters: shop: no broker",)),
    "cluster with what is the release's": (
        {"clusters": [{**CLUSTER, "serviceMonitor": {}}]},
        ("/clusters/0", "'serviceMonitor' not allowed"),
    ),
    "two clusters of one name": (
        {"clusters": [CLUSTER, CLUSTER]},
        ("clusters: duplicate name shop",),
    ),
    "cluster with a name that is no label": (
        {"clusters": [{**CLUSTER, "name": "Shop!"}]},
        ("/clusters/0/name",),
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_invalid_values_are_refused_with_a_message(fault: str) -> None:
    values, words = REFUSED[fault]
    with pytest.raises(helm.HelmError) as refusal:
        texts(values)
    for word in words:
        assert word in str(refusal.value)


def test_no_refusal_repeats_a_url() -> None:
    url = "redis://:s3cret@redis/0"
    for wrong in (
        {"broker": {"url": url, "existingSecret": "x"}},
        {"broker": {"url": url, "port": url}},
    ):
        with pytest.raises(helm.HelmError) as refusal:
            texts(wrong)
        assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    "values",
    [
        {"app": "proj", "image": {"repository": "proj"}},
        {"extraEnvFrom": [{"secretRef": {"name": "django"}}]},
        {"extraEnv": [{"name": "CELERY_VITALS_BROKER_URL_FILE", "value": "/vault/broker"}]},
        {"config": {"broker-url-file": "/vault/broker"}},
        {**SECRET, "global": {"anything": 1}},
    ],
)
def test_a_broker_may_come_from_elsewhere(values: dict[str, Any]) -> None:
    assert "deployment.yaml" in texts(values)


def test_install_message_describes_the_next_steps() -> None:
    first = notes(SECRET)
    for word in (
        "serviceMonitor.enabled",
        "prometheusRule.enabled",
        "dashboards.enabled",
        "resultBackend",
        "helm test",
    ):
        assert word in first
    enabled = {"enabled": True}
    rest = dict.fromkeys(
        ("serviceMonitor", "prometheusRule", "dashboards", "networkPolicy"), enabled
    )
    done = notes({**SECRET, **rest, "resultBackend": {"existingSecret": "x"}, "enableEvents": True})
    for word in (
        "serviceMonitor.enabled",
        "prometheusRule.enabled",
        "dashboards.enabled",
        "resultBackend",
    ):
        assert word not in done
    assert "2 replicas" in notes({**SECRET, "replicaCount": 2})
    assert "https://localhost" in notes({**SECRET, "web": {"existingSecret": "web", "tls": True}})
