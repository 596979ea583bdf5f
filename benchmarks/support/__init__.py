"""Servers, workers and exporters that the benchmarks run."""
