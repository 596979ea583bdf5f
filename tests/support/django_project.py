"""A Django project with the sample Celery app and the app of celery-vitals."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers import Broker
from tests.support.web_host import environment, examples, project_folder

APP = "from project.app import app as celery_app\n"
SETTINGS = """\
SECRET_KEY, ALLOWED_HOSTS, ROOT_URLCONF, USE_TZ = "x", ["*"], "proj.urls", True
INSTALLED_APPS = ["celery_vitals.integrations.django"]
SILENCED_SYSTEM_CHECKS = [f"security.W{number:03}" for number in range(30)]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
LOGGING = {
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
}
CELERY_VITALS = {"interval": 0.5, "timeout": 2, "queue_limits": {"celery": 5}}
"""
FILES = {
    "manage.py": """\
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
execute_from_command_line(sys.argv)
""",
    "proj/__init__.py": "from proj.celery import app as celery_app\n",
    "proj/settings.py": SETTINGS,
    "proj/wsgi.py": """\
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
application = get_wsgi_application()
""",
    **examples("health_python.md"),
}


class Project:
    """A Django project with the sample Celery app."""

    def __init__(self, broker: Broker, files: dict[str, str]) -> None:
        self.broker = broker
        self.folder = project_folder({**FILES, **files})

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of manage.py."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env=environment(self.broker, self.folder),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@contextmanager
def project(broker: Broker, **files: str) -> Iterator[Project]:
    """A project; keywords are the contents of modules of its package."""
    found = Project(broker, {f"proj/{name}.py": text for name, text in files.items()})
    try:
        yield found
    finally:
        shutil.rmtree(found.folder)
