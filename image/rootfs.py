"""Copy the files that a Python environment needs at run time into the root folder of an image.

    python rootfs.py ENVIRONMENT FOLDER

These are the interpreter, the standard library without installers and graphical programs, the
environment, the shared libraries of all these, certificates, time zones, and a user.  Paths are
unchanged.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Not needed at run time; the first two could install packages.
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
# Loaded by dlopen, so that ldd does not list them: name resolution, thread cancellation.
BY_NAME = ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2", "libgcc_s.so.1")
DATA = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/usr/share/zoneinfo"))
FILES = {
    "etc/passwd": "celery-vitals:x:65532:65532::/tmp:/sbin/nologin\n",
    "etc/group": "celery-vitals:x:65532:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def main(environment: Path, root: Path) -> None:
    """Fill the root folder."""
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
        if Path("/", name).is_symlink():  # executables refer to the loader as /lib64/...
            (root / name).symlink_to(Path("/", name).readlink())
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def copy(source: Path, root: Path) -> None:
    """Copy a file or a folder to its real path below the root."""
    target = root / (source.parent.resolve() / source.name).relative_to("/")
    if source.is_dir():
        unwanted = shutil.ignore_patterns("__pycache__", *LEFT_OUT)
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=unwanted)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def libraries(root: Path) -> set[Path]:
    """Return the shared libraries of all programs and modules below the root, and the loader."""
    files = [
        path
        for path in root.rglob("*")
        if path.is_file() and (".so" in path.name or path.parent.name == "bin")
    ]
    linked = {path for file in files for path in paths_in("ldd", str(file), pattern=r"(/\S+) \(0x")}
    folders = {path.parent.resolve() for path in linked}
    installed = paths_in("ldconfig", "-p", pattern=r"=> (/\S+)")
    return {path for path in linked if root not in path.parents} | {
        path for path in installed if path.name in BY_NAME and path.parent.resolve() in folders
    }


def paths_in(*command: str, pattern: str) -> list[Path]:
    """Return the paths in the output of a command; ldd fails for scripts, which is no error."""
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [Path(path) for path in re.findall(pattern, output)]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
