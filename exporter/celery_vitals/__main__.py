"""`python -m celery_vitals` is `celery-vitals`."""

from celery_vitals.cli import main

main()
