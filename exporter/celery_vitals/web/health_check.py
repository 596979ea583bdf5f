"""Whether an exporter on this machine answers: the question of a container's health check."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING

from celery_vitals.web.config_reload import LiveConfig

if TYPE_CHECKING:
    from celery_vitals.settings import Settings

# A health check knows no password and has no client certificate: to be turned away is an answer too.
_ALIVE = (200, 401)
_LOOPBACK = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what others listen on


def alive(settings: Settings, timeout: float) -> bool:
    """Whether the exporter with these settings answers on the first of its addresses within `timeout` seconds.

    Raises ConfigError when its --web.config.file is wrong.
    """
    address = settings.web_listen_address[0]
    host = _LOOPBACK.get(address.host, address.host)
    tls = (
        LiveConfig(settings.web_config_file).current().config.tls
        if settings.web_config_file
        else None
    )
    connection = (
        http.client.HTTPSConnection(host, address.port, timeout=timeout, context=_unchecked())
        if tls
        else http.client.HTTPConnection(host, address.port, timeout=timeout)
    )
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status in _ALIVE
    except (ssl.SSLError, ConnectionResetError):
        return tls is not None and tls.client_cert is True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _unchecked() -> ssl.SSLContext:
    """It asks this machine: a certificate for another name, or one that has expired, is no illness."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
