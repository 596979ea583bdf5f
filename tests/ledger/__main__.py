"""Run scenarios with the numbers of a long run, or others: `python -m tests.ledger [SCENARIO ...]`.

Exit code 0: the exporter equals the log; 1: it does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields, replace

from .scenarios import LONG, SCENARIOS, Size
from .servers import SERVERS

SHOWN = 60
"""Lines of differences that are printed."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.ledger", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--broker", choices=[*SERVERS, "both"], default="both")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    for one in fields(Size):
        default = getattr(LONG, one.name)
        flag = f"--{one.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"default {default}")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    size = replace(LONG, **{one.name: getattr(arguments, one.name) for one in fields(Size)})
    brokers = list(SERVERS) if arguments.broker == "both" else [arguments.broker]
    wrong = 0
    for kind in brokers:
        for name in arguments.scenarios or SCENARIOS:
            wrong += run(name, kind, size, arguments.seed)
    return 1 if wrong else 0


def run(name: str, kind: str, size: Size, seed: int) -> int:
    """Run a scenario on a broker of its own; return how much is wrong."""
    print(f"== {name} on {kind}, seed {seed}", flush=True)
    began = time.monotonic()
    with SERVERS[kind]() as server, server.namespace() as broker:
        wrong = SCENARIOS[name](broker, size, seed)
    print(*wrong[:SHOWN], sep="\n")
    print(f"{len(wrong)} differences, {time.monotonic() - began:.0f} s", flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
