"""The servers in containers, for machines with a Docker engine and without their programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from .finding import HOST


@cache
def docker_answers() -> bool:
    """Whether a Docker engine can be used."""
    try:
        from testcontainers.core.docker_client import DockerClient

        client = DockerClient().client
    except Exception:
        return False
    try:
        return bool(client.ping())
    except Exception:
        return False
    finally:
        client.close()


class Container:
    """A server in a container whose ports are published on 127.0.0.1 (`ports`: inside -> outside).

    Without `ports` it has the host's network.  `volumes` maps outer to inner folders, read-only.
    """

    def __init__(
        self,
        image: str,
        command: Sequence[str] | None = None,
        ports: Mapping[int, int] | None = None,
        env: Mapping[str, str] | None = None,
        volumes: Mapping[str, str] | None = None,
    ) -> None:
        from testcontainers.core.container import DockerContainer

        mounts = [(outside, inside, "ro") for outside, inside in (volumes or {}).items()]
        self._container: Any = DockerContainer(image, env=dict(env or {}), volumes=mounts)
        if not ports:
            self._container.with_kwargs(network_mode="host")
        if command is not None:
            self._container.with_command(list(command))
        for inside, outside in (ports or {}).items():
            self._container.ports[str(inside)] = (HOST, outside)
        self._started = False

    @property
    def _wrapped(self) -> Any:
        return self._container.get_wrapped_container()

    def _state(self) -> str:
        if not self._started:
            return "created"
        self._wrapped.reload()
        return str(self._wrapped.status)

    @property
    def alive(self) -> bool:
        """Whether it runs, paused or not."""
        return self._state() in ("running", "paused")

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._wrapped.logs().decode(errors="replace") if self._started else ""

    def start(self) -> None:
        """Make and start it, or start it again on the same ports and data."""
        if not self._started:
            self._container.start()
            self._started = True
        elif not self.alive:
            self._wrapped.start()

    def stop(self) -> None:
        """SIGTERM, after 20 seconds SIGKILL."""
        self.thaw()
        if self.alive:
            self._wrapped.stop(timeout=20)

    def kill(self) -> None:
        """SIGKILL."""
        if self.alive:
            self._wrapped.kill()
            self._wrapped.wait()

    def freeze(self) -> None:
        """`docker pause`: every process of it stands still."""
        self._wrapped.pause()

    def thaw(self) -> None:
        """`docker unpause`."""
        if self._state() == "paused":
            self._wrapped.unpause()

    def remove(self) -> None:
        """Remove it and its data."""
        if self._started:
            self._container.stop()
            self._started = False
