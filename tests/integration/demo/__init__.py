"""The demo: what it starts, what it shows, and that nothing of it is left."""
