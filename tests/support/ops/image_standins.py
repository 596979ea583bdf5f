"""Replacements for images, built from Debian's packages where no registry is reachable."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.ops.image_engine import Engine, mirror

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where a company's own certificate authority is in the way to PyPI, the image has to know it too.
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class StandIn:
    """An image: its Debian release, packages and command."""

    image: str
    suite: str
    packages: Sequence[str]
    entrypoint: str = ""

    def make(self, engine: Engine) -> None:
        """Make it, under the name of the real one."""
        include = ",".join(["ca-certificates", *self.packages])
        hook = f'cat {_CERTIFICATES} > "$1{_CERTIFICATES}"'
        changes = [
            f"ENV {_PATH}",
            *([f'ENTRYPOINT ["{self.entrypoint}"]'] if self.entrypoint else []),
        ]
        arguments = [
            "--variant=minbase",
            f"--include={include}",
            f"--customize-hook={hook}",
            self.suite,
            "-",
            mirror(),
        ]
        tree = engine.folder / "tree.tar"
        with tree.open("wb") as file:
            subprocess.run(
                ["mmdebstrap", *arguments],
                stdout=file,
                stderr=subprocess.PIPE,
                check=True,
                timeout=600,
            )
        engine.docker(
            "import", *(f"--change={change}" for change in changes), str(tree), self.image
        )
        tree.unlink()


PYTHON = StandIn("python:3.13-slim", "trixie", ["python3", "python3-venv"])
REDIS = StandIn("redis:7.4", "bookworm", ["redis-server"])
PROMETHEUS = StandIn("prom/prometheus:v3.5.0", "bookworm", ["prometheus"], "/usr/bin/prometheus")
ALERTMANAGER = StandIn(
    "prom/alertmanager:v0.28.1",
    "bookworm",
    ["prometheus-alertmanager"],
    "/usr/bin/prometheus-alertmanager",
)


def provide(engine: Engine, *stand_ins: StandIn) -> list[str]:
    """See that these images are there; the names of those that are stand-ins."""
    missing = [one for one in stand_ins if not engine.has(one.image)]
    for one in missing:
        one.make(engine)
    return [one.image for one in missing]
