"""Redis as the broker, with and without Sentinel."""
