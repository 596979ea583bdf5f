"""A Celery cluster to look at: `run` starts broker, workers, beat and the exporter, and shows what it sees."""

from celery_vitals.demo.runner import run

__all__ = ["run"]
