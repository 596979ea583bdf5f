"""The options: their declarations, the sources of their values, and their validation."""

from celery_vitals.secrets import Secret
from celery_vitals.settings.model import Settings
from celery_vitals.settings.parsers import Address

__all__ = ["Address", "Secret", "Settings"]
