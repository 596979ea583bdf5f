"""`python -m celery_vitals_pulse`: the command `celery-vitals-pulse`."""

import sys

from celery_vitals_pulse.check import main

sys.exit(main())
