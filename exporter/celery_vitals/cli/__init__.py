"""The command line: the program `celery-vitals`, and the command `vitals` of `celery`."""

from celery_vitals.cli.group import main, vitals

__all__ = ["main", "vitals"]
