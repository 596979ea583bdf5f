"""Run the healthy demo with a real Prometheus and the unchanged rules: no alert may fire.

    python -m tests.support.ops.healthy_demo [MINUTES]

The demo runs its own broker, workers, beat and traffic (one mail in five fails), and a worker for
`reports`, a queue without consumers in the demo.  The exit code is 0 if no alert has fired.  A
second copy of the rules has each `for` divided by 100, to find alerts that take longer than the
run; its alerts are printed but do not change the exit code.
"""

from __future__ import annotations

import sys
import time

import click

from celery_vitals.demo.brokers import find
from celery_vitals.demo.cluster import (
    CELERY,
    PROJECT,
    environment,
    start_beat,
    start_broker,
    start_workers,
)
from celery_vitals.demo.processes import Supervisor
from tests.support.ops.rules import groups
from tests.support.ops.short_rules import quick_groups
from tests.support.servers import HOST, PrometheusServer, free_port, wait_for

EVERY = 5.0


def start(household: Supervisor) -> str:
    """Start the demo without faults; return the address of its exporter."""
    broker, port = find(household.folder), free_port()
    env = environment(broker, household.folder)
    start_broker(household, broker, env)
    start_workers(household, env)
    reports = (
        "worker",
        "-E",
        "-n",
        "reports@demo",
        "-P",
        "solo",
        "-Q",
        "reports",
        "--without-mingle",
    )
    household.start("worker-reports", (*CELERY, *reports), env)
    start_beat(household, env)
    serve = (sys.executable, "-m", "celery_vitals", "serve", "--app", f"{PROJECT}:app")
    household.start("exporter", (*serve, "--web.listen-address", f"{HOST}:{port}"), env)
    return f"{HOST}:{port}"


def watch(
    prometheus: PrometheusServer, household: Supervisor, minutes: float
) -> dict[str, set[str]]:
    """Return the alerts that fired, by the label `copy` of their rules."""
    fired: dict[str, set[str]] = {"": set(), "quick": set()}
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        time.sleep(EVERY)
        household.check()
        for labels, _ in prometheus.query('ALERTS{alertstate="firing"}'):
            fired[labels.get("copy", "")].add(labels["alertname"])
    return fired


@click.command()
@click.argument("minutes", type=click.FloatRange(min=0, min_open=True), default=10.0)
def main(minutes: float) -> None:
    """Run the healthy demo for MINUTES with a real Prometheus; fail if an alert fires."""
    quick = [{**group, "name": f"{group['name']}-quick"} for group in quick_groups(copy="quick")]
    quick = [
        {**group, "rules": [rule for rule in group["rules"] if "alert" in rule]} for group in quick
    ]
    with Supervisor() as household:
        target = start(household)
        rules = [*groups(), *(group for group in quick if group["rules"])]
        with PrometheusServer([target], interval=EVERY, rules=rules) as prometheus:
            wait_for(
                lambda: prometheus.query("sum(celery_worker_up) == 3"), 60, ignoring=(OSError,)
            )
            fired = watch(prometheus, household, minutes)
            evaluated = prometheus.api("rules")["groups"]
            broken = [
                rule["name"]
                for group in evaluated
                for rule in group["rules"]
                if rule["health"] != "ok"
            ]
            tasks = prometheus.query("sum(increase(celery_task_succeeded_total[30m]))")[0][1]
    count = sum(len(group["rules"]) for group in groups())
    print(
        f"{minutes:g} minutes, {tasks:.0f} tasks, {count} rules, "
        f"{len(broken)} with evaluation errors: {broken}"
    )
    print(f"fired: {sorted(fired['']) or 'none'}")
    print(f"fired with each `for` divided by 100: {sorted(fired['quick']) or 'none'}")
    sys.exit(1 if fired[""] or broken else 0)


if __name__ == "__main__":
    main()
