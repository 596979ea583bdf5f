"""Every value of the chart: it changes what is rendered, and the result is valid."""

from __future__ import annotations

import json

import helm_python as helm
import kubernetes_validate
import pytest
from cloudcoil.models.prometheus_operator import v1
from pydantic import BaseModel

from tests.support.ops.chart_keys import (
    AUTH,
    BASE,
    CHANGED,
    CONFIG_MAP,
    OFF,
    ON,
    OTHER_RELABELING,
    POD_MONITOR,
    RELABELING,
    base_of,
    merged,
    nested,
)
from tools.chart import values as chart_values
from tools.chart.helm import NAMESPACE, Object, of_kind, texts
from tools.chart.helm import objects as objects_of

KUBERNETES = "1.34"
OPERATOR: dict[str, type[BaseModel]] = {
    "ServiceMonitor": v1.ServiceMonitor,
    "PodMonitor": v1.PodMonitor,
    "PrometheusRule": v1.PrometheusRule,
}


def leaves() -> list[str]:
    """Return the keys of values.yaml that are documented."""
    return [path for path, _ in chart_values.entries()]


def assert_valid(values: Object) -> None:
    """Validate every object as Kubernetes or the Prometheus operator does."""
    for one in objects_of(values):
        if one["kind"] in OPERATOR:
            read = OPERATOR[one["kind"]].model_validate(one)
            assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == one
        else:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def deployment(values: Object) -> Object:
    """Return the specification of the Deployment."""
    [found] = of_kind("Deployment", merged(BASE, values))
    spec: Object = found["spec"]
    return spec


def container(values: Object) -> Object:
    """Return the container of the exporter."""
    found: Object = deployment(values)["template"]["spec"]["containers"][0]
    return found


def test_every_key_has_a_changed_value() -> None:
    assert set(CHANGED) == set(leaves())


@pytest.mark.parametrize("path", CHANGED)
def test_key_changes_a_valid_render(path: str) -> None:
    base = base_of(path)
    changed = merged(base, nested(path, CHANGED[path]))
    assert_valid(changed)
    before, after = texts(base), texts(changed)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize("path", [one for one, value in CHANGED.items() if isinstance(value, str)])
def test_text_of_a_key_is_in_the_render(path: str) -> None:
    value = CHANGED[path].replace("{alert}", "")
    rendered = "".join(texts(merged(base_of(path), nested(path, CHANGED[path]))).values())
    encoded = path.endswith(".url")
    assert encoded or value in rendered


NEWER = (
    "additionalLabels", "labels", "annotations", "relabelings", "metricRelabelings", "tlsConfig",
    "targetLabels", "podTargetLabels", "namespaceSelector",
)  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "strategy", "dnsConfig", "hostAliases", "initContainers", "extraContainers",
        "extraManifests", "extraObjects", "imagePullSecrets", "global", "global.imagePullSecrets",
        "livenessProbe", "readinessProbe", "startupProbe", "service.labels", "scrape.relabelings",
        "scrape.metricRelabelings",
        *(one for one in CHANGED if one.endswith(NEWER) and "Monitor." in one),
        *(one for one in CHANGED if one.endswith(NEWER) and "Rule." in one),
    ],
)  # fmt: skip
def test_null_is_the_same_as_empty(path: str) -> None:
    assert_valid(merged(base_of(path), nested(path, None)))


def test_global_registry_takes_precedence() -> None:
    given = {"global": {"imageRegistry": "one"}, "image": {"registry": "two", "repository": "x"}}
    [test_pod] = of_kind("Pod", merged(BASE, given))
    assert container(given)["image"].startswith("one/x:")
    assert test_pod["spec"]["containers"][0]["image"].startswith("one/x:")


def test_pull_secrets_of_release_and_global_are_joined() -> None:
    given = {"global": {"imagePullSecrets": ["a", {"name": "b"}]}, "imagePullSecrets": ["b", "c"]}
    names = [{"name": name} for name in "abc"]
    [test_pod] = of_kind("Pod", merged(BASE, given))
    assert deployment(given)["template"]["spec"]["imagePullSecrets"] == names
    assert test_pod["spec"]["imagePullSecrets"] == names


@pytest.mark.parametrize("values", [BASE, merged(BASE, POD_MONITOR), {"clusters": [{"name": "a"}]}])
def test_namespace_override_moves_every_object_and_selector(values: Object) -> None:
    given = merged(BASE, values, {"namespaceOverride": "elsewhere"})
    assert {one["metadata"]["namespace"] for one in objects_of(given)} == {"elsewhere"}
    for kind in ("ServiceMonitor", "PodMonitor"):
        for one in of_kind(kind, given):
            assert one["spec"]["namespaceSelector"] == {"matchNames": ["elsewhere"]}
    assert "--namespace elsewhere port-forward" in texts(given)["NOTES.txt"]


@pytest.mark.parametrize(
    ("monitor", "base"), [("serviceMonitor", BASE), ("podMonitor", merged(BASE, POD_MONITOR))]
)
def test_monitor_keys_complete_those_of_scrape(monitor: str, base: Object) -> None:
    own = {
        "interval": "30s",
        "scrapeTimeout": "20s",
        "relabelings": RELABELING,
        "labels": {"release": "one", "team": "one"},
        "additionalLabels": {"release": "two"},
    }
    scrape = {"interval": "15s", "relabelings": OTHER_RELABELING}
    given = merged(base, {monitor: own, "scrape": scrape})
    [found] = of_kind(monitor[0].upper() + monitor[1:], given)
    [endpoint] = found["spec"].get("endpoints") or found["spec"]["podMetricsEndpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("15s", "20s")
    assert endpoint["relabelings"] == RELABELING + OTHER_RELABELING
    assert found["metadata"]["labels"].items() >= {"release": "two", "team": "one"}.items()


def test_target_labels_of_a_cluster_keep_its_label() -> None:
    given = {"clusters": [{"name": "shop"}], "serviceMonitor": {"targetLabels": ["team"]}}
    [monitor] = of_kind("ServiceMonitor", merged(BASE, given))
    assert monitor["spec"]["targetLabels"] == ["celery_cluster", "team"]


def test_probe_fields_override_and_a_handler_replaces() -> None:
    given = container({"livenessProbe": {"periodSeconds": 30, "timeoutSeconds": 9}})
    assert given["livenessProbe"] == {
        **container({})["livenessProbe"], "periodSeconds": 30, "timeoutSeconds": 9,
    }  # fmt: skip
    for handler in ({"exec": {"command": ["true"]}}, {"tcpSocket": {"port": "http"}}):
        for values in ({}, AUTH):
            probe = container(merged(values, {"readinessProbe": handler}))["readinessProbe"]
            assert probe == {**handler, "timeoutSeconds": 5}
    path = container({"readinessProbe": {"httpGet": {"path": "/x", "port": 1}}})["readinessProbe"]
    assert path["httpGet"] == {"path": "/x", "port": 1}


def test_disabled_probes_are_absent() -> None:
    probes = ("livenessProbe", "readinessProbe", "startupProbe")
    assert not set(probes) & set(container(dict.fromkeys(probes, OFF)))
    assert set(probes) <= set(container(dict.fromkeys(probes, ON)))


def test_service_port_is_used_by_message_and_test_pod() -> None:
    given = merged(BASE, {"service": {"port": 9808}})
    [service] = of_kind("Service", given)
    assert service["spec"]["ports"] == [{"name": "http", "port": 9808, "targetPort": "http"}]
    [test_pod] = of_kind("Pod", given)
    assert test_pod["spec"]["containers"][0]["args"][1].endswith(":9808")
    assert "10818:9808" in texts(given)["NOTES.txt"]


@pytest.mark.parametrize("key", ["extraObjects", "extraManifests"])
@pytest.mark.parametrize("text", [True, False])
def test_extra_objects_are_templates(key: str, text: bool) -> None:
    mine = merged(CONFIG_MAP, {"metadata": {"namespace": "{{ .Release.Namespace }}"}})
    given = merged(BASE, {key: [json.dumps(mine) if text else mine]})
    [found] = [one for one in objects_of(given) if one["metadata"]["name"] == "mine"]
    assert found["metadata"]["namespace"] == NAMESPACE


def test_install_message_requires_the_image_while_it_has_the_default_name() -> None:
    assert "docker build" in texts(BASE)["NOTES.txt"]
    for given in (
        {"image": {"registry": "registry.example.org"}},
        {"global": {"imageRegistry": "registry.example.org"}},
        {"image": {"repository": "registry.example.org/celery-vitals"}},
    ):
        assert "docker build" not in texts(merged(BASE, given))["NOTES.txt"]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"serviceMonitor": {"scrapeInterval": "15s"}}, "scrapeInterval"),
        ({"serviceMonitor": {"namespaceSelector": {"matchName": ["a"]}}}, "matchName"),
        ({"livenessProbe": {"periodSecond": 3}}, "periodSecond"),
        ({"strategy": {"type": "Rolling"}}, "/strategy/type"),
        ({"dnsPolicy": "none"}, "/dnsPolicy"),
        ({"imagePullSecrets": [3]}, "/imagePullSecrets/0"),
        ({"extraContainers": [{"image": "busybox"}]}, "'name'"),
        ({"service": {"port": "9808"}}, "/service/port"),
    ],
)
def test_misspelled_key_or_wrong_value_is_refused(values: Object, word: str) -> None:
    with pytest.raises(helm.HelmError, match=word):
        texts(merged(BASE, values))
