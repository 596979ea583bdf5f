"""Settings of the unit tests."""

from __future__ import annotations

from hypothesis import settings

# The time of one example depends on what else the machine does.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
