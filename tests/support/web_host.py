"""A web application of a page of the documentation, by the command of its server."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import urllib3

from tests.support.servers import HOST, Broker, free_port, project_environment, wait_for
from tests.support.servers.child import Child
from tests.support.servers.process_reaper import process_reaper

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r'^```python title="(\S+)"\n(.*?)^```\n', re.MULTILINE | re.DOTALL)
PROJECT = {
    "proj/__init__.py": "",
    "proj/celery.py": "from project.app import app\n",
    "proj/settings.py": "SECRET_KEY, ALLOWED_HOSTS, ROOT_URLCONF = 'x', ['*'], 'proj.urls'\n",
    "proj/urls.py": "urlpatterns = []\n",
}


def examples(page: str) -> dict[str, str]:
    """Return the examples of a page by the names of their files."""
    return dict(BLOCK.findall((DOCS / page).read_text()))


def project_folder(files: Mapping[str, str]) -> Path:
    """Return a new folder with the sample project and these files; remove it."""
    folder = process_reaper().folder("host")
    for name, text in {**PROJECT, **files}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def environment(broker: Broker, folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a program in the folder, with more variables."""
    found = project_environment(broker)
    return {**found, **more, "PYTHONPATH": f"{found['PYTHONPATH']}:{folder}"}


class Host:
    """The server of an application, and a client."""

    def __init__(
        self, broker: Broker, command: str, files: Mapping[str, str], **variables: str
    ) -> None:
        self.folder = project_folder(files)
        port = free_port()
        program, *arguments = command.split()
        address = ["--port", str(port)] if program == "uvicorn" else ["--bind", f"{HOST}:{port}"]
        argv = [sys.executable, "-m", program, *address, *arguments]
        self.child = Child("host", argv, environment(broker, self.folder, **variables), self.folder)
        self.url = f"http://{HOST}:{port}"
        self.client = urllib3.PoolManager(retries=False, timeout=30)

    def get(self, path: str, method: str = "GET") -> urllib3.BaseHTTPResponse:
        """Return the response to a request."""
        return self.client.request(method, self.url + path, redirect=False)

    def status(self, path: str, method: str = "GET") -> int:
        """Return the status of the response to a request."""
        return self.get(path, method).status

    def answers(self) -> bool:
        """Return whether the application serves, with 404 for an unknown path."""
        try:
            return self.status("/host") == 404
        except urllib3.exceptions.HTTPError:
            return False


@contextmanager
def running(
    broker: Broker, command: str, files: Mapping[str, str], **variables: str
) -> Iterator[Host]:
    """Run the server of an application, with more variables in its environment."""
    host = Host(broker, command, files, **variables)
    try:
        host.child.start()
        wait_for(host.answers, 60, what=f"an answer of {command}")
        yield host
    finally:
        host.client.clear()
        host.child.kill()
        shutil.rmtree(host.folder, ignore_errors=True)
