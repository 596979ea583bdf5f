"""Every pod of the chart under Kubernetes' own policy `restricted`, and beyond it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tools.chart.helm import CASES, Object, objects, values_of

Pod = Object
# Of the Pod Security Standards: what `restricted` lets a volume be.
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pods(case: str) -> Iterator[Pod]:
    for one in objects(values_of(case)):
        if one["kind"] == "Pod":
            yield one["spec"]
        elif "template" in one.get("spec", {}):
            yield one["spec"]["template"]["spec"]


def containers(pod: Pod) -> list[Object]:
    return [
        one
        for name in ("initContainers", "containers", "ephemeralContainers")
        for one in pod.get(name, [])
    ]


def all_containers(check: Callable[[Object], bool]) -> Callable[[Pod], bool]:
    return lambda pod: all(check(one["securityContext"]) for one in containers(pod))


RESTRICTED: dict[str, Callable[[Pod], bool]] = {
    "no namespace of the host": lambda pod: (
        not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    ),
    "no port of the host": lambda pod: (
        not any("hostPort" in port for one in containers(pod) for port in one.get("ports", []))
    ),
    "harmless volumes": lambda pod: all(
        set(one) - {"name"} <= VOLUMES for one in pod.get("volumes", [])
    ),
    "not privileged": all_containers(lambda context: not context.get("privileged")),
    "no escalation": all_containers(lambda context: context["allowPrivilegeEscalation"] is False),
    "all capabilities dropped": all_containers(
        lambda context: context["capabilities"] == {"drop": ["ALL"]}
    ),
    "not root": lambda pod: (
        pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    ),
    "seccomp": lambda pod: (
        pod["securityContext"]["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost")
    ),
    "no sysctls": lambda pod: not pod["securityContext"].get("sysctls"),
}
BEYOND: dict[str, Callable[[Pod], bool]] = {
    "read-only root": all_containers(lambda context: context["readOnlyRootFilesystem"] is True),
    "no token": lambda pod: pod["automountServiceAccountToken"] is False,
    "bounded memory": lambda pod: all(
        "memory" in one["resources"]["limits"] for one in containers(pod)
    ),
    "bounded scratch space": lambda pod: all(
        "sizeLimit" in one["emptyDir"] for one in pod.get("volumes", []) if one["name"] == "tmp"
    ),
    "no variables of other services": lambda pod: pod["enableServiceLinks"] is False,
    "secrets not readable by all": lambda pod: all(
        (one.get("secret") or one.get("projected"))["defaultMode"] & 0o007 == 0
        for one in pod.get("volumes", [])
        if "secret" in one or "projected" in one
    ),
}


@pytest.mark.parametrize("rule", [*RESTRICTED, *BEYOND])
@pytest.mark.parametrize("case", CASES)
def test_every_pod_keeps_to(case: str, rule: str) -> None:
    found = list(pods(case))
    assert found
    assert all((RESTRICTED | BEYOND)[rule](pod) for pod in found)
