"""Defaults that the plugin and the command share."""

DEFAULT_FILE = "/tmp/celery_healthcheck"
DEFAULT_INTERVAL = 60.0
MISSED_INTERVALS = 3
"""Intervals without a touch after which a file is stale, unless the probe gives an age."""
