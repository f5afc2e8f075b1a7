"""Checks the network connection before a download."""

import http.client
import urllib.request

from zoojax.errors import ZoojaxError
from zoojax.text import first_line

TIMEOUT_SECONDS = 5.0


def require_network(url: str, advice: str) -> None:
    """Checks that a server answers within seconds.

    Libraries that download image sets have no timeout of their own, or retry for minutes.

    Args:
        url: A file of the download.
        advice: End of the error message: what is missing and how to provide it.

    Raises:
        ZoojaxError: If there is no answer.
    """
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS).close()
    except (OSError, http.client.HTTPException) as error:
        raise ZoojaxError(f"no answer from {url} ({first_line(error)}): {advice}") from error
