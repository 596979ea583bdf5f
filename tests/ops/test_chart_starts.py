"""What the chart renders, given to the program: its command line, variables and files."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import bcrypt
import pytest
import trustme

from tests.support.command_line import serve
from tests.support.exporter import Exporter
from tests.support.servers import RedisServer
from tools.chart.helm import CASES, Object, of_kind, values_of

PLACE = "/etc/celery-vitals"


class Pod:
    """The container of the exporter, with the files of its volumes below a folder of the test's."""

    def __init__(self, deployment: Object, values: Object, folder: Path, url: str) -> None:
        spec = deployment["spec"]["template"]["spec"]
        [self.container] = [one for one in spec["containers"] if one["name"] == "celery-vitals"]
        self._folder = folder
        self._values = values
        self._url = url
        volumes = {one["name"]: one for one in spec["volumes"]}
        for mount in self.container["volumeMounts"]:
            if mount["mountPath"].startswith(PLACE):
                for name, content in self._content(volumes[mount["name"]]).items():
                    path = Path(self.here(mount["mountPath"]), name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(content)

    def here(self, text: str) -> str:
        """A text of the container, with its paths those of the folder."""
        return text.replace(PLACE, str(self._folder))

    @property
    def args(self) -> list[str]:
        """The command line, without the program and the command."""
        assert self.container["command"] == ["celery-vitals"]
        command, *rest = map(self.here, self.container["args"])
        assert command == "serve"
        return rest

    @property
    def env(self) -> dict[str, str]:
        """The variables, with those of Secrets in their places."""
        given = {one["name"]: one.get("value", "p%40ss") for one in self.container.get("env", [])}
        for name in given:
            given = {key: text.replace(f"$({name})", given[name]) for key, text in given.items()}
        return given

    def _content(self, volume: Object) -> dict[str, str]:
        if "configMap" in volume:
            [data] = [one["data"] for one in self._named("ConfigMap", volume["configMap"]["name"])]
            return {name: self.here(text) for name, text in data.items()}
        if "projected" in volume:
            sources = [one["secret"] for one in volume["projected"]["sources"]]
            return {
                item["path"]: self._secret(one["name"], item["key"])
                for one in sources
                for item in one["items"]
            }
        return self._web() if volume["name"] == "web" else certificates()

    def _secret(self, name: str, key: str) -> str:
        for one in self._named("Secret", name):
            return base64.b64decode(one["data"][key]).decode() + "\n"
        return (
            self._url if "management" not in key.lower() else "http://u:p@localhost:15672"
        ) + "\n"

    def _named(self, kind: str, name: str) -> list[Object]:
        return [one for one in of_kind(kind, self._values) if one["metadata"]["name"] == name]

    def _web(self) -> dict[str, str]:
        tls = (
            "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
            if self._values["web"].get("tls")
            else ""
        )
        hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        users = (
            f"basic_auth_users: {{scraper: '{hashed}'}}\n"
            if self._values["web"].get("auth")
            else ""
        )
        return {"web-config.yaml": tls + users, **certificates()}


def certificates() -> dict[str, str]:
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    return {
        "ca.crt": authority.cert_pem.bytes().decode(),
        "tls.crt": pair.cert_chain_pems[0].bytes().decode(),
        "tls.key": pair.private_key_pem.bytes().decode(),
    }


def pods(values: Object, folder: Path, url: str) -> list[Pod]:
    deployments = of_kind("Deployment", values)
    return [Pod(one, values, folder / one["metadata"]["name"], url) for one in deployments]


@pytest.mark.parametrize("case", CASES)
def test_the_program_takes_what_is_rendered(case: str, tmp_path: Path) -> None:
    found = pods(values_of(case), tmp_path, "redis://localhost:1/0")
    assert len(found) == (3 if case == "clusters" else 1)
    for pod in found:
        result = serve(*pod.args, env=pod.env)
        assert (result.exit_code, result.stdout) == (0, "configuration is valid\n"), result.output


def test_the_password_gets_into_the_url(tmp_path: Path) -> None:
    [pod] = pods(values_of("existing-secret"), tmp_path, "redis://localhost:1/0")
    assert pod.env["CELERY_VITALS_RESULT_BACKEND"] == "redis://:p%40ss@redis.jobs.svc:6379/1"


@pytest.mark.parametrize(
    ("tls", "auth"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_what_is_rendered_starts_and_its_probes_answer(
    redis_server: RedisServer, tmp_path: Path, tls: bool, auth: bool
) -> None:
    web = {"existingSecret": "web", "tls": tls, "auth": auth} if tls or auth else {}
    with redis_server.namespace() as broker:
        [pod] = pods({"broker": {"existingSecret": "celery"}, "web": web}, tmp_path, broker.url)
        with Exporter(*pod.args, env=pod.env) as exporter:
            port = exporter.address.rpartition(":")[2]
            assert exporter.address.startswith("https" if tls else "http:")
            for name in ("livenessProbe", "readinessProbe"):
                probe = pod.container[name]
                assert ("exec" in probe) == auth
                if auth:
                    program, *rest = map(pod.here, probe["exec"]["command"])
                    assert program == "celery-vitals"
                    assert asked(*rest, "--web.listen-address", f"127.0.0.1:{port}") == 0
                else:
                    assert probe["httpGet"]["scheme"] == ("HTTPS" if tls else "HTTP")
                    if not tls:
                        assert exporter.get(probe["httpGet"]["path"])[0] == 200
            config = [
                pod.here(f"--config.file={PLACE}/config/config.yaml"),
                "--web.listen-address",
                f"127.0.0.1:{port}",
            ]
            assert asked("healthy", *config) == 0
            exporter.stop()
            assert asked("healthy", *config) == 1


def asked(*command: str) -> int:
    """The exit code of the program's command."""
    done = subprocess.run(
        [sys.executable, "-m", "celery_vitals", *command],
        env=os.environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode
