"""Make `python -m celery_vitals` equivalent to `celery-vitals`."""

from celery_vitals.cli import main

main()
