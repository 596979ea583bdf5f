"""The collectors: broker, backend, workers, queues and tasks."""
