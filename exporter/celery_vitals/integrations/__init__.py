"""Health of a Celery cluster for Python programs, web frameworks and Django."""
