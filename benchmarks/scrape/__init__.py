"""Scrape duration of a large cluster: many stand-ins that reply as real workers do, many queues."""
