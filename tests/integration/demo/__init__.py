"""The demo: its processes, its output, and its cleanup."""
