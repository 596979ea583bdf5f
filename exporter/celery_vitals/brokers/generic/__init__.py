"""Other kombu transports as the broker."""
