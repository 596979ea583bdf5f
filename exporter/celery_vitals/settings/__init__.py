"""Every option declared once; where a value comes from; what makes it wrong."""

from celery_vitals.secrets import Secret
from celery_vitals.settings.model import Settings
from celery_vitals.settings.parsers import Address

__all__ = ["Address", "Secret", "Settings"]
