"""RabbitMQ with its management plugin."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .base import Broker, BrokerServer, Runner
from .certificates import Certificates
from .child import Child
from .containers import Container, docker_answers
from .finding import HOST, MissingProgramError, find_program, free_port
from .http import request
from .process_reaper import process_reaper

# The script itself: the wrapper on PATH changes the user and the folders.
PLACES = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)
# Milliseconds between two refreshes of the numbers in the management API (5000 by default).
STATISTICS = "-rabbit collect_statistics_interval 1000"


class RabbitMQServer(BrokerServer):
    """One RabbitMQ node whose data survive restarts.  Every namespace is a virtual host of its own.

    With `tls` it wants TLS, and of its clients a certificate; the user named in that needs no
    password.
    """

    kind = "rabbitmq"
    start_timeout = 90.0

    def __init__(
        self,
        user: str = "vitals",
        password: str = "vitals-secret",
        port: int = 0,
        tls: Certificates | None = None,
    ) -> None:
        self.tls = tls
        self.user = user
        self.password = password
        self.management_port = free_port()
        self._spaces = itertools.count(1)
        port = port or free_port()
        super().__init__("rabbitmq", port, self._runner(port))

    def _runner(self, port: int) -> Runner:
        program = find_program("rabbitmq-server", *PLACES)
        if program is not None:
            folder = process_reaper().folder("rabbitmq")
            self._configure(folder, port)
            return Child("rabbitmq", [str(program)], self._environment(folder, port), folder)
        if docker_answers():
            env = {
                "RABBITMQ_DEFAULT_USER": self.user,
                "RABBITMQ_DEFAULT_PASS": self.password,
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": STATISTICS,
            }
            return Container(
                "rabbitmq:3-management", None, {5672: port, 15672: self.management_port}, env
            )
        raise MissingProgramError("rabbitmq-server", "rabbitmq-server")

    def _configure(self, folder: Path, port: int) -> None:
        (folder / "rabbitmq.conf").write_text(
            f"{self._listening(port)}\n"
            f"management.tcp.ip = {HOST}\n"
            f"management.tcp.port = {self.management_port}\n"
            f"default_user = {self.user}\n"
            f"default_pass = {self.password}\n"
            "disk_free_limit.absolute = 50MB\n"
        )
        plugins = (
            "rabbitmq_management, rabbitmq_auth_mechanism_ssl"
            if self.tls
            else "rabbitmq_management"
        )
        (folder / "enabled_plugins").write_text(f"[{plugins}].\n")

    def _listening(self, port: int) -> str:
        if self.tls is None:
            return f"listeners.tcp.1 = {HOST}:{port}"
        return (
            "listeners.tcp = none\n"
            f"listeners.ssl.1 = {HOST}:{port}\n"
            f"ssl_options.cacertfile = {self.tls.authority}\n"
            f"ssl_options.certfile = {self.tls.certificate}\n"
            f"ssl_options.keyfile = {self.tls.key}\n"
            "ssl_options.verify = verify_peer\n"
            "ssl_options.fail_if_no_peer_cert = true\n"
            "ssl_cert_login_from = common_name\n"
            "auth_mechanisms.1 = PLAIN\n"
            "auth_mechanisms.2 = EXTERNAL"
        )

    @staticmethod
    def _environment(folder: Path, port: int) -> dict[str, str]:
        distribution = free_port()
        node = f"vitals{port}@localhost"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_"))
        }
        return inherited | {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # A node with a fixed name does not start epmd, which would keep running.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-sname {node} -kernel inet_dist_use_interface {{127,0,0,1}}"
                f" -start_epmd false -erl_epmd_port {distribution} +S 2:2 {STATISTICS}"
            ),
            # With this the script execs the Erlang VM, so that SIGTERM reaches the VM.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    @property
    def url(self) -> str:
        """The default virtual host."""
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """One virtual host."""
        credentials = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        scheme = "amqps" if self.tls else "amqp"
        return f"{scheme}://{credentials}@{HOST}:{self.port}/{quote(vhost, safe='')}"

    @property
    def management_url(self) -> str:
        """The HTTP API, with credentials."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        return f"http://{user}:{password}@{HOST}:{self.management_port}"

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the management API, e.g. api("GET", "queues/%2F"); what it answers, decoded.

        OSError (urllib.error.HTTPError among others) when it refuses.
        """
        url = f"http://{HOST}:{self.management_port}/api/{path}"
        data = None if body is None else json.dumps(body).encode()
        answer = request(url, method=method, data=data, credentials=(self.user, self.password))
        return json.loads(answer) if answer else None

    def ready(self) -> bool:
        """Return whether the management API reports a running node that accepts AMQP."""
        return all(node["running"] for node in self.api("GET", "nodes")) and self._listens()

    def _listens(self) -> bool:
        return any(
            one["protocol"] in ("amqp", "amqp/ssl")
            for one in self.api("GET", "overview")["listeners"]
        )

    def add_vhost(self, name: str) -> None:
        """Make a virtual host that the user may do everything in."""
        place = quote(name, safe="")
        self.api("PUT", f"vhosts/{place}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.api("PUT", f"permissions/{place}/{quote(self.user, safe='')}", everything)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it; its clients are disconnected."""
        self.api("DELETE", f"vhosts/{quote(name, safe='')}")

    @contextmanager
    def namespace(self) -> Iterator[Broker]:
        """A new virtual host, deleted afterwards."""
        name = f"test-{next(self._spaces)}"
        self.add_vhost(name)
        yield Broker(self.kind, self.url_of(name), "rpc://", self, self.management_url, name)
        with suppress(OSError):
            self.delete_vhost(name)
