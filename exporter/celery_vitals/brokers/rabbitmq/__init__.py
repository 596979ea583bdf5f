"""RabbitMQ as the broker: queues, management API and events."""
