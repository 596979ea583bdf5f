"""A sample Celery project; the workers of the tests run it."""
