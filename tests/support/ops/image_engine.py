"""A Docker engine for the checks of the image: the running one, else a temporary one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import Self

from tests.support.servers import wait_for
from tests.support.servers.child import Child
from tests.support.servers.install import docker_answers, install

ROOT = Path(__file__).parents[3]
# No bridge of its own and no rules of the firewall: networks are made by compose, and go with it.
_QUIET = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")
_PACKAGES = {"dockerd": "docker.io", "mmdebstrap": "mmdebstrap"}
_COMPOSE = "usr/libexec/docker/cli-plugins/docker-compose"


class Engine:
    """Runs `docker`; a context manager.  Our own engine needs root and Debian's docker.io."""

    def __init__(self) -> None:
        # A short path: that of a unix socket may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self.env: Mapping[str, str] = {**os.environ, "DOCKER_CONFIG": str(self.folder / "config")}
        self._own: Child | None = None
        if not docker_answers():
            install_missing()
            self.env = {**self.env, "DOCKER_HOST": f"unix://{self.folder}/docker.sock"}
            places = [
                f"--{name}={self.folder / name}" for name in ("data-root", "exec-root", "pidfile")
            ]
            argv = ["dockerd", *_QUIET, *places, f"--host={self.env['DOCKER_HOST']}"]
            self._own = Child("dockerd", argv, self.env, self.folder)

    def docker(self, *args: str, timeout: float = 300) -> str:
        """Return the output of a docker command; RuntimeError with its stderr when it fails."""
        done = self.tried(*args, timeout=timeout)
        if done.returncode:
            raise RuntimeError(
                f"docker {' '.join(args)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done.stdout.strip()

    def tried(self, *args: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A command of docker's that may fail."""
        return subprocess.run(
            ["docker", *args],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=ROOT,
        )

    def build(self, tag: str, folder: str) -> None:
        """Build an image from a folder of this project."""
        self.docker("build", "--network", "host", "--tag", tag, folder, timeout=900)

    def has(self, image: str) -> bool:
        """Whether an image is here or can be pulled."""
        inspected = self.tried("image", "inspect", image)
        return (
            inspected.returncode == 0
            or self.tried("pull", "--quiet", image, timeout=900).returncode == 0
        )

    def __enter__(self) -> Self:
        if self._own:
            self._own.start()
            wait_for(
                lambda: self.tried("info").returncode == 0, timeout=60, what="dockerd answering"
            )
        if self.tried("compose", "version").returncode:
            self._add_compose()
        return self

    def _add_compose(self) -> None:
        """Debian's newest compose, from the mirror that this system uses, for this engine only."""
        folder = self.folder / "apt"
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "archives" / "partial").mkdir(parents=True)
        key = "/usr/share/keyrings/debian-archive-keyring.gpg"
        source = f"deb [check-valid-until=no signed-by={key}] {mirror()} sid main\n"
        (folder / "sources.list").write_text(source)
        options = {
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder,
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
        subprocess.run([*apt, "update"], check=True, capture_output=True, timeout=300)
        subprocess.run(
            [*apt, "download", "docker-compose"],
            check=True,
            capture_output=True,
            timeout=300,
            cwd=folder,
        )
        [package] = folder.glob("docker-compose_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True, timeout=60)
        plugins = self.folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        shutil.copy2(folder / _COMPOSE, plugins)

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._own.stop()
            # What dockerd leaves behind of containers in the network of the host.
            for mount in (self.folder / "exec-root" / "netns").glob("*"):
                subprocess.run(["umount", mount], check=False, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)


def install_missing() -> None:
    """Debian's engine, and what makes its stand-ins, where they are not on this machine."""
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if missing and not install(missing):
        raise RuntimeError(
            f"no Docker engine answers, and these Debian packages are missing: {' '.join(missing)}"
        )


def mirror() -> str:
    """The Debian mirror of this system."""
    output = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    return output.split()[0]
