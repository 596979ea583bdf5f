"""The ledger against the tasks' own log, under kills and restarts: `make test-ledger`.

The tasks of `project.ledger` write when they start and end; a receiver of its own records the
events.  What the exporter counts as lost, delivered again, overlapping and repeated must follow
from the log wherever the events arrived.
"""
