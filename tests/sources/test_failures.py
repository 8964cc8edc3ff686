"""Why a stream cannot be read, from FFmpeg's error and what it logged."""

import pytest

from ssdrt.sources.failures import classify


@pytest.mark.parametrize(
    ("error", "log", "kind"),
    [
        (ConnectionRefusedError(), "Connection to tcp://127.0.0.1:40123 failed: Connection refused", "refused"),
        (ConnectionRefusedError(), "Connection to tcp://tls-cam:554 failed: Connection refused", "refused"),
        (TimeoutError(), "Connection to tcp://tls-cam:5401?timeout=0 failed: Connection timed out", "timeout"),
        (OSError(5, "Input/output error"), "rtsp://host/resolve/tls/certificate: Input/output error", "closed"),
        (OSError(5, "Input/output error"), "Failed to resolve hostname x: Name or service not known", "unknown host"),
        (OSError(5, "Input/output error"), "A TLS fatal alert has been received.", "tls"),
        (ValueError(), "method DESCRIBE failed: 401 Unauthorized", "authentication"),
        (OSError(110, "Connection timed out"), "", "timeout"),
    ],
)
def test_the_log_tells_what_the_error_does_not(error, log, kind):
    assert classify(error, log).kind == kind
