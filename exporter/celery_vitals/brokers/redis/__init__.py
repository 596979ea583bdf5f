"""Redis as the broker: queues, control mailbox and events."""
