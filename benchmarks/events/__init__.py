"""The cost of following task events, compared with PyPI's `prometheus-exporter-celery`."""
