"""The tests, against real servers and real workers."""
