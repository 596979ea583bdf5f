"""Where facts come from, what a finding is derived from, and its weight."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """The weight of a finding."""

    ERROR = "error"
    """Does not work, or loses or repeats tasks."""
    WARNING = "warning"
    """Fails under load, at an outage or at an upgrade."""
    INFO = "info"
    """A choice that is worth to be made on purpose."""

    @property
    def rank(self) -> int:
        """The position in lists: 0 is the worst."""
        return list(Severity).index(self)


class Source(str, Enum):
    """Where facts come from."""

    SETTINGS = "settings"
    """Celery's settings: of the app, or of workers."""
    TASKS = "tasks"
    """The classes of the tasks."""
    ALL_TASKS = "all_tasks"
    """Every task of the app, so that a missing one does not exist."""
    WORKERS = "workers"
    """The replies of workers."""
    VERSIONS = "versions"
    """The versions that workers report."""
    RUNNING = "running"
    """Since when tasks run, by their events: an exporter observes them."""
    BROKER = "broker"
    """The URL of the broker and its options."""
    REDIS = "redis"
    """What INFO returns."""
    REDIS_CONFIG = "redis_config"
    """What CONFIG GET returns."""
    REDIS_ETA = "redis_eta"
    """The ETAs of messages that workers hold."""
    RABBITMQ = "rabbitmq"
    """The version in RabbitMQ's greeting."""
    MANAGEMENT = "management"
    """RabbitMQ's management API."""


@dataclass(frozen=True)
class Evidence:
    """One value that a finding is derived from."""

    name: str
    value: str
    source: str
    """The app, worker, task or server that has the value."""
