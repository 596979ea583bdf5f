"""Benchmarks that the documentation quotes; each is one command."""
