"""The app for INSTALLED_APPS of Django: the command `celery_health`, system checks, a view."""
