"""What it costs to follow task events: this exporter beside PyPI's `prometheus-exporter-celery`, in one run."""
