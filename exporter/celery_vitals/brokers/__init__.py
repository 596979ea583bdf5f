"""Connections to the broker, and everything that depends on its kind."""
