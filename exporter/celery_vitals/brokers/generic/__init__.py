"""Brokers that kombu's own consumer serves, and those of which nothing can be observed."""
