"""The demo: `run` starts a broker, workers, beat and the exporter, and shows its metrics."""

from celery_vitals.demo.runner import run

__all__ = ["run"]
