"""Labels of the chart's objects: each there once, a text, and enough to tell one release from
another."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import yaml

from tools.chart.helm import NAMESPACE, Object, chart

SECRET = {"broker": {"existingSecret": "celery"}}
ENABLED = {"enabled": True}
CLUSTERS = [{"name": name, **SECRET} for name in ("shop", "1", "on")]


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, as Kubernetes does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice in {keys}"
        return super().construct_mapping(node, deep)


def rendered(values: Object, release: str = "celery") -> list[Object]:
    """All objects of a release."""
    found = chart().render({**SECRET, **values}, name=release, namespace=NAMESPACE)
    texts = [text for path, text in found.items() if not path.endswith("NOTES.txt")]
    return [one for text in texts for one in yaml.load_all(text, Strict) if one]


def of(kind: str, found: list[Object]) -> Object:
    """The first object of a kind."""
    return next(one for one in found if one["kind"] == kind)


def test_duplicate_label_has_the_more_specific_value() -> None:
    labels = {"release": "prometheus", "team": "jobs"}
    values = {
        "commonLabels": labels,
        "podLabels": {"team": "pods"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "operator"}},
    }
    found = rendered(values)
    assert of("Service", found)["metadata"]["labels"].items() >= labels.items()
    assert of("ServiceMonitor", found)["metadata"]["labels"]["release"] == "operator"
    assert of("Deployment", found)["spec"]["template"]["metadata"]["labels"]["team"] == "pods"


def test_common_labels_are_on_every_object() -> None:
    labels, annotations = {"team": "jobs"}, {"example.org/owner": "jobs"}
    kinds = (
        "serviceMonitor",
        "prometheusRule",
        "dashboards",
        "networkPolicy",
        "podDisruptionBudget",
    )
    values = {
        "commonLabels": labels,
        "commonAnnotations": annotations,
        **dict.fromkeys(kinds, ENABLED),
    }
    for one in rendered(values):
        assert one["metadata"]["labels"].items() >= labels.items(), one["kind"]
        assert one["metadata"]["annotations"].items() >= annotations.items(), one["kind"]


def test_no_label_of_yours_replaces_what_selects_the_pods() -> None:
    mine = {"app.kubernetes.io/name": "mine", "app.kubernetes.io/instance": "mine"}
    deployment = of("Deployment", rendered({"commonLabels": mine, "podLabels": mine}))
    selector, pod = (
        deployment["spec"]["selector"]["matchLabels"],
        deployment["spec"]["template"]["metadata"]["labels"],
    )
    assert selector.items() <= pod.items()
    assert "mine" not in selector.values()


@pytest.mark.parametrize("values", [{}, {"nameOverride": "5"}, {"clusters": CLUSTERS}])
def test_a_name_that_looks_like_a_number_or_a_switch_is_a_text(values: Object) -> None:
    for one in rendered(values, release="123"):
        assert all(isinstance(value, str) for value in one["metadata"]["labels"].values()), one[
            "kind"
        ]


@pytest.mark.parametrize(
    ("monitor", "carrier"), [("serviceMonitor", "Service"), ("podMonitor", "Deployment")]
)
def test_two_releases_in_one_namespace_are_two_jobs(monitor: str, carrier: str) -> None:
    jobs = set()
    for release in ("shop", "mail"):
        found = rendered({monitor: ENABLED}, release)
        job = of(monitor[0].upper() + monitor[1:], found)["spec"]["jobLabel"]
        labelled = of(carrier, found)
        jobs.add(labelled["spec"].get("template", labelled)["metadata"]["labels"][job])
    assert jobs == {"shop", "mail"}


def test_a_network_policy_lets_in_who_scrapes_and_the_pod_of_helm_test() -> None:
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    for switch in (True, False):
        values = {
            "networkPolicy": {"enabled": True, "ingressFrom": [scraper]},
            "test": {"enabled": switch},
        }
        found = rendered(values)
        [rule] = of("NetworkPolicy", found)["spec"]["ingress"]
        assert scraper in rule["from"]
        test_pods = [one["metadata"]["labels"] for one in found if one["kind"] == "Pod"]
        peers = [one["podSelector"]["matchLabels"] for one in rule["from"] if "podSelector" in one]
        assert peers == test_pods
        assert len(peers) == switch
