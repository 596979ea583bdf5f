"""Servers of a newer Debian, which lives in a folder.

Each server runs in a mount namespace of its own: its mounts are visible to no other
process, and unmounted by the kernel when the server ends, however that happens.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from tests.support.servers.install import install

from .folder import FOLDER, NotHereError, ask, run_well

SUITE = "trixie"
TREE = FOLDER / SUITE
# Debian package, whose program is what the tests want.
PROGRAMS = {
    "redis-server": "/usr/bin/redis-server",
    "valkey-server": "/usr/bin/valkey-server",
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
}
# The program keeps its process id, environment, working folder and the temporary folder.
INSIDE = """#!/bin/sh
exec unshare --mount sh -c '
set -e
root=$1 shared=$2 program=$3
shift 3
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root$shared"
mount --bind "$shared" "$root$shared"
exec chroot "$root" env --chdir="$PWD" "$program" "$@"
' sh '{root}' '{shared}' '{program}' "$@"
"""


def program(package: str) -> Path:
    """A program that runs a server of the newer Debian; NotHereError where that cannot be had."""
    make_tree()
    script = FOLDER / f"{SUITE}-{package}"
    shared = Path(tempfile.gettempdir()).resolve()
    script.write_text(INSIDE.format(root=TREE, shared=shared, program=PROGRAMS[package]))
    script.chmod(0o755)
    return script


def version(package: str) -> str:
    """Its upstream version, e.g. 8.0.2."""
    full = ask(
        "dpkg-query",
        f"--admindir={TREE}/var/lib/dpkg",
        "--show",
        "--showformat=${Version}",
        package,
    )
    return re.sub(r"^\d+:|[-+].*", "", full)


def make_tree() -> None:
    """The newer Debian with the servers, unless it is there."""
    if TREE.exists():
        return
    if os.geteuid() != 0:
        raise NotHereError("the newer servers need root: mmdebstrap, mount and chroot")
    if not shutil.which("mmdebstrap") and not (shutil.which("apt-get") and install(["mmdebstrap"])):
        raise NotHereError("the newer servers need the Debian package mmdebstrap")
    half = TREE.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    contents = ["--variant=minbase", f"--include={','.join(PROGRAMS)}"]
    # What mmdebstrap mounts goes with its namespace too, even when it is killed.
    run_well(["unshare", "--mount", "mmdebstrap", *contents, SUITE, str(half), mirror()])
    half.rename(TREE)


def mirror() -> str:
    """Where this machine gets its Debian packages."""
    found = ask(
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Label: Debian",
    )
    if not found:
        raise NotHereError(
            "the newer servers need a Debian mirror in the apt sources of this machine"
        )
    return found.splitlines()[0]
