"""Every option declared once; where a value comes from; what makes it wrong."""

from celery_vitals.secret import Secret
from celery_vitals.settings.model import Settings
from celery_vitals.settings.parse import Address

__all__ = ["Address", "Secret", "Settings"]
