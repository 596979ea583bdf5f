"""Install the server programs that the tests run, where they are missing.

    python -m tests.support.servers.install [PROGRAM ...]

More programs can be named, such as those that draw pictures (chromium, node, npm). On Debian and
its descendants, as root.  Needs nothing but the standard library, and does nothing when nothing is
missing.  Exit code 0: the tests can run; 1: one line says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Program -> where it may be besides PATH.
PLACES = {
    "redis-server": (),
    "rabbitmq-server": ("/usr/sbin/rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server"),
    "prometheus": (),
    "promtool": (),
    "prometheus-alertmanager": (),
    "memcached": (),
    "postgres": ("/usr/lib/postgresql",),
    "pgbouncer": ("/usr/sbin/pgbouncer",),
}
# Program -> Debian package.
PACKAGES = {"promtool": "prometheus", "postgres": "postgresql", "node": "nodejs"}


def missing_packages(more: Sequence[str] = ()) -> list[str]:
    """The Debian packages whose programs are not on this machine, each once."""
    wanted = PLACES | dict.fromkeys(more, ())
    missing = [name for name, places in wanted.items() if not _present(name, places)]
    return list(dict.fromkeys(PACKAGES.get(name, name) for name in missing))


def _present(name: str, places: tuple[str, ...]) -> bool:
    return shutil.which(name) is not None or any(Path(place).exists() for place in places)


def docker_answers() -> bool:
    """Whether there is a Docker engine to run the servers in."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        answer = subprocess.run(
            [docker, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def install(packages: list[str]) -> bool:
    """Install packages without starting services, with one retry; return whether it worked."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    steps = (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
    )
    return any(all(_run(step, environment) for step in steps) for _ in range(2))


def _run(command: list[str], environment: dict[str, str]) -> bool:
    return (
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
        == 0
    )


def main(more: Sequence[str] = ()) -> int:
    """Install the missing packages and print their names."""
    packages = missing_packages(more)
    if not packages:
        return 0
    names = " ".join(packages)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        if install(packages) and not missing_packages(more):
            return 0
        print(f"apt-get could not install: {' '.join(missing_packages(more))}", file=sys.stderr)
        return 1
    if docker_answers():
        print(f"not installed, Docker runs them instead: {names}")
        return 0
    print(
        f"the tests need these Debian packages (or a running Docker engine): {names}",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
