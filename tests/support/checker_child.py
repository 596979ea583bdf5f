"""Processes with one HealthChecker that was started before they were forked.

Prints a line of JSON for each, the parent last: what it saw first, and `stats` at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from celery.utils.imports import symbol_by_name

from celery_vitals import HealthChecker


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--cache")
    parser.add_argument("--interval", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    app = symbol_by_name("project.app:app")
    checker = HealthChecker(app, options.cache, options.interval).start()
    checker.check()
    children = []
    for _ in range(options.processes):
        child = os.fork()
        if not child:
            observe(checker, options.seconds)
            checker.stop()
            sys.exit()  # the finalizers run as well
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    observe(checker, options.seconds / 3)
    checker.stop()
    write({"codes": codes})


def observe(checker: HealthChecker, seconds: float) -> None:
    first = checker.is_healthy
    before = checker.stats()["rounds"]
    began = time.monotonic()
    own = checker.check().status
    until = time.monotonic() + seconds
    healthy = True
    while time.monotonic() < until:
        healthy = healthy and checker.is_healthy
        time.sleep(0.02)
    found: dict[str, Any] = {"first": first, "before": before, "check": own, "healthy": healthy}
    found["span"] = [began, time.monotonic()]
    write({**found, **checker.stats()})


def write(line: dict[str, Any]) -> None:
    """Write in one call: several processes have this output."""
    os.write(sys.stdout.fileno(), f"{json.dumps(line)}\n".encode())


if __name__ == "__main__":
    main()
