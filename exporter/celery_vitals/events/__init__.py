"""Task events: from bytes on the wire to counters, and to the registry of workers."""
