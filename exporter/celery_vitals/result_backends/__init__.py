"""The result backend: checks of its options, and a round trip that leaves nothing behind."""
