"""A Celery project as anybody may have one; the workers of the tests run it."""
