"""The rules, one module per subject; importing a module declares its rules."""

from __future__ import annotations

from celery_vitals.audit.rules import (
    connection,
    delays,
    delivery,
    limits,
    priorities,
    rabbitmq,
    redis,
    results,
    routing,
    schedule,
    security,
    settings,
    transports,
    workers,
)

MODULES = (
    delays,
    delivery,
    limits,
    workers,
    routing,
    priorities,
    schedule,
    results,
    redis,
    rabbitmq,
    transports,
    connection,
    security,
    settings,
)
MODULE_NAMES = [module.__name__.rpartition(".")[2] for module in MODULES]
