"""A server in its own process: prints its URL when ready, then how its collector was closed."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import cast

from prometheus_client import Metric

from celery_vitals.errors import ConfigError
from celery_vitals.exporter import Collector
from celery_vitals.settings import Settings
from celery_vitals.web.server import serve
from tests.support.web_fakes import FakeCollector


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", action="append", required=True)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--blocked", action="store_true", help="scrapes block for ever")
    parser.add_argument(
        "--worst",
        action="store_true",
        help="a large response, and a slow close of the collector",
    )
    options = parser.parse_args()
    logging.basicConfig(
        level=options.log_level.upper(), format="%(levelname)s %(name)s %(message)s"
    )
    collector = FakeCollector()
    if options.blocked:
        collector.go.clear()
    if options.worst:
        collector.families = [Metric("celery_" + "x" * 20_000_000, "Large.", "gauge")]
        collector.slow_close = True
    settings = Settings(web_listen_address=tuple(options.listen), log_level=options.log_level)
    try:
        code = serve(cast(Collector, collector), settings, lambda urls: print(*urls, flush=True))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print("closed", *(f"{seconds:.1f}" for seconds in collector.closed), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
