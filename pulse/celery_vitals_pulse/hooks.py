"""Where the plugin enters a process: Celery's signals, and steps of the worker."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import Any

from celery import bootsteps, signals
from celery.utils.nodenames import gethostname, host_format, nodename, nodesplit

from celery_vitals_pulse import settings
from celery_vitals_pulse.beat import BeatSource
from celery_vitals_pulse.heartbeat_file import HeartbeatFile
from celery_vitals_pulse.pulse import Pulse
from celery_vitals_pulse.worker import WorkerSource

log = logging.getLogger("celery_vitals_pulse")

_UID = "celery-vitals-pulse"


@dataclass
class _Process:
    """What runs in this process; a forked process begins with its parent's."""

    worker_pid: int = 0
    """The process in which a worker was initialized: this one, or one that it was forked from."""
    hostname: str = ""
    """The name of that worker."""
    pulse: Pulse | None = None
    sources: dict[int, WorkerSource] = field(default_factory=dict)
    """The workers of this process by the id of the object, which they outlive."""

    def own_pulse(self) -> Pulse | None:
        """Return the pulse that runs in this process."""
        return self.pulse if self.pulse is not None and self.pulse.pid == os.getpid() else None


_process = _Process()


def install(app: Any = None) -> None:
    """Connect the signals, once in a process; `app` is the app whose messages are sent."""
    if app is not None and not hasattr(app, "conf"):
        raise TypeError(f"install() takes a Celery app, not {type(app).__name__}")
    signals.worker_init.connect(_on_worker_init, weak=False, dispatch_uid=_UID)
    signals.worker_shutdown.connect(_on_worker_shutdown, weak=False, dispatch_uid=_UID)
    signals.worker_process_init.connect(_on_child_init, weak=False, dispatch_uid=_UID)
    signals.worker_process_shutdown.connect(_on_child_shutdown, weak=False, dispatch_uid=_UID)
    signals.beat_init.connect(_on_beat_init, weak=False, dispatch_uid=_UID)


class WorkerStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the pulse of a worker once its pool runs, before it connects."""

    requires = ("celery.worker.components:Pool", "celery.worker.components:Timer")

    def start(self, worker: Any) -> None:
        """Start the pulse."""
        conf = settings.read(worker.app.conf)
        source = _process.sources[id(worker)] = WorkerSource(worker, conf)
        _start(source, conf, conf.path(worker.hostname, os.getpid()))

    def stop(self, worker: Any) -> None:
        """Leave the file until the pool has finished its tasks."""
        source = _process.sources.get(id(worker))
        if source is not None:
            source.draining = True


class ConsumerStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Observes the loop of the consumer, which starts anew with each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Observe the loop."""
        source = _process.sources.get(id(consumer.controller))
        if source is not None:
            source.consumer_started(consumer)

    def stop(self, consumer: Any) -> None:
        """End the observation of the loop."""
        source = _process.sources.get(id(consumer.controller))
        if source is not None:
            source.consumer_stopped()


def _on_worker_init(sender: Any = None, **_: Any) -> None:
    _process.worker_pid, _process.hostname = os.getpid(), sender.hostname
    sender.app.steps["worker"].add(WorkerStep)
    sender.app.steps["consumer"].add(ConsumerStep)


def _on_worker_shutdown(sender: Any = None, **_: Any) -> None:
    _process.sources.pop(id(sender), None)
    _stop()


def _on_beat_init(sender: Any = None, **_: Any) -> None:
    conf = settings.read(sender.app.conf)
    path = conf.path(_name_of_beat(sender), os.getpid())
    if _process.worker_pid and _process.own_pulse() is None and not conf.per_process:
        path += ".beat"  # `celery worker --beat` forks it: the other file is the worker's
    _start(BeatSource(sender, conf.interval), conf, path)


def _on_child_init(**_: Any) -> None:
    """Start the pulse of a pool's child, if every process has a file of its own."""
    if _process.worker_pid == os.getpid():
        return  # a pool of threads or greenlets
    from celery import current_app

    conf = settings.read(current_app.conf)
    if conf.per_process:
        _start(None, conf, conf.path(_process.hostname, os.getpid()))


def _on_child_shutdown(**_: Any) -> None:
    _stop()


def _start(source: Any, conf: settings.Settings, path: str) -> None:
    """Start the pulse of this process, or add to it."""
    pulse = _process.own_pulse()
    if pulse is None:
        pulse = _process.pulse = Pulse(HeartbeatFile(path, conf.interval), conf.interval)
        pulse.start()
    if source is not None:
        pulse.sources.append(source)


def _stop() -> None:
    pulse = _process.own_pulse()
    if pulse is not None:
        pulse.stop()
        _process.pulse = None


def _name_of_beat(service: Any) -> str:
    """Return the node name of beat, as Celery 5.7 names it."""
    name, host = nodesplit(getattr(service, "hostname", None) or "")
    return str(host_format(nodename(name or "celerybeat", host or gethostname())))
