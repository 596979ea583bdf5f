"""Install on import, without a line in the application.

    celery -A proj worker --include celery_vitals_pulse.auto

Beat imports the modules of the settings `imports` and `include`.
"""

from celery_vitals_pulse import hooks

hooks.install()
