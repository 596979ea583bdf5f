"""The health check of a container: whether the exporter on this machine responds."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING

from celery_vitals.web.config_reload import ReloadingConfig

if TYPE_CHECKING:
    from celery_vitals.settings import Settings

# The check has no password and no client certificate: a rejection is a response, too.
_HEALTHY = (200, 401)
_LOOPBACK = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound


def is_healthy(settings: Settings, timeout: float) -> bool:
    """Return whether the exporter responds on its first address within `timeout` seconds.

    Raises ConfigError when --web.config.file is invalid.
    """
    address = settings.web_listen_address[0]
    host = _LOOPBACK.get(address.host, address.host)
    tls = (
        ReloadingConfig(settings.web_config_file).current().config.tls
        if settings.web_config_file
        else None
    )
    connection = (
        http.client.HTTPSConnection(host, address.port, timeout=timeout, context=_unverified())
        if tls
        else http.client.HTTPConnection(host, address.port, timeout=timeout)
    )
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status in _HEALTHY
    except (ssl.SSLError, ConnectionResetError):
        return tls is not None and tls.client_cert is True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _unverified() -> ssl.SSLContext:
    # The connection is local: an expired certificate, or one for another name, is no failure.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
