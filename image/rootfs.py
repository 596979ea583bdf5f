"""Copy what one Python environment needs to run, and nothing else, into a folder that becomes an image.

    python rootfs.py ENVIRONMENT FOLDER

The interpreter, the standard library without its installers and toys, the environment, every shared library that any
of these is linked with, certificates, time zones, and a user.  All paths stay what they were.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Not needed to run a program; the first two could install others.
LEFT_OUT = (
    "ensurepip",
    "pip*",
    "idlelib",
    "lib2to3",
    "tkinter",
    "turtledemo",
    "test",
    "pydoc_data",
    "config-*",
    "*.a",
)
# Loaded by name when they are needed, so that ldd does not tell: host names, and the end of a thread.
BY_NAME = ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2", "libgcc_s.so.1")
DATA = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/usr/share/zoneinfo"))
FILES = {
    "etc/passwd": "celery-vitals:x:65532:65532::/tmp:/sbin/nologin\n",
    "etc/group": "celery-vitals:x:65532:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def main(environment: Path, root: Path) -> None:
    """Fill the folder."""
    for source in (
        environment,
        Path(sys.executable).resolve(),
        Path(sysconfig.get_path("stdlib")),
        *DATA,
    ):
        copy(source, root)
    for library in sorted(libraries(root)):
        copy(library, root)
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():  # the loader is looked for in /lib64
            (root / name).symlink_to(Path("/", name).readlink())
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def copy(source: Path, root: Path) -> None:
    """The file, or the folder with what is in it, at its true place below the root."""
    target = root / (source.parent.resolve() / source.name).relative_to("/")
    if source.is_dir():
        unwanted = shutil.ignore_patterns("__pycache__", *LEFT_OUT)
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=unwanted)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def libraries(root: Path) -> set[Path]:
    """The shared libraries that any program or module below the root is linked with, the loader among them."""
    files = [
        path
        for path in root.rglob("*")
        if path.is_file() and (".so" in path.name or path.parent.name == "bin")
    ]
    linked = {path for file in files for path in told("ldd", str(file), pattern=r"(/\S+) \(0x")}
    folders = {path.parent.resolve() for path in linked}
    by_name = {
        path for path in told("ldconfig", "-p", pattern=r"=> (/\S+)") if path.name in BY_NAME
    }
    return {path for path in linked if root not in path.parents} | {
        path for path in by_name if path.parent.resolve() in folders
    }


def told(*command: str, pattern: str) -> list[Path]:
    """The paths in what a command says; that a script is no program to ldd is no fault."""
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [Path(path) for path in re.findall(pattern, said)]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
