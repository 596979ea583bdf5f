"""Metrics: their definitions, cardinality limits, tables and text encoding."""
