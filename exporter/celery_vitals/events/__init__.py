"""Task events: from the bytes of the broker to counts, and to who lives."""
