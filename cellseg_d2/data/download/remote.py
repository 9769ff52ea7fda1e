"""One HTTP request: what the server says of a file, and errors told apart by whether another try may help."""

import http.client
import re
import ssl
from dataclasses import dataclass
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ...errors import DatasetError

__all__ = ["Broken", "RangeRefused", "Remote", "describe", "open_url", "range_start"]

_TRANSIENT = (408, 425, 429)


class Broken(Exception):
    """The connection or the server failed in a way that another try may mend."""


class RangeRefused(Broken):
    """There is no such part of the file: it has become shorter."""


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        size: bytes of the whole file.
        etag: as the server wrote it, quotes included; "" where it has none.
        last_modified: date as text, or "".
        md5: in hexadecimal where the ETag is known to be it, else "".
    """

    size: int
    etag: str
    last_modified: str
    md5: str

    @property
    def validator(self) -> str:
        """What If-Range may hold: a strong ETag, else the date; "" where the server gave neither."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


def open_url(request: Request, timeout: float) -> http.client.HTTPResponse:
    """Send a request.

    Raises:
        Broken: no connection, or the server has trouble for now.
        DatasetError: the server says no, or its certificate is not to be trusted.
    """
    url = request.full_url
    try:
        return urlopen(request, timeout=timeout)
    except HTTPError as error:
        with error:
            if error.code == 416:
                raise RangeRefused("the file has become shorter on the server") from error
            if error.code >= 500 or error.code in _TRANSIENT:
                raise Broken(f"the server answers {error.code} {error.reason}") from error
            raise DatasetError(
                f"{url}: the server answers {error.code} {error.reason}; {_advice(error.code)}"
            ) from error
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DatasetError(
                f"{url}: the server's certificate is not to be trusted ({error.reason.verify_message}); is a proxy in "
                f"between? The variable SSL_CERT_FILE names your organisation's certificates"
            ) from error
        raise Broken(f"no connection ({error.reason})") from error
    except http.client.InvalidURL as error:
        raise DatasetError(f"{url}: not an address ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"no connection ({error or type(error).__name__})") from error


def describe(response: http.client.HTTPResponse) -> Remote:
    """What the headers of an answer (200 or 206) say of the whole file.

    Raises:
        DatasetError: a web page instead of the file, or the file's size is not told.
    """
    headers, url = response.headers, response.url
    if headers.get_content_type() == "text/html":
        raise DatasetError(
            f"{url}: the answer is a web page, not the file; is it a proxy's or a wireless network's log-in page?"
        )
    size = headers.get("Content-Length", "")
    if response.status == 206:
        size = headers.get("Content-Range", "").rpartition("/")[2]
    if not size.isdigit():
        raise DatasetError(f"{url}: the server does not say how long the file is, so that a break would go unseen")
    etag = headers.get("ETag", "")
    # Elsewhere, and under a key of KMS, 32 digits may be anything; S3's ETag of an upload in parts has a dash
    is_md5 = headers.get("Server") == "AmazonS3" and headers.get("x-amz-server-side-encryption") != "aws:kms"
    plain = re.fullmatch(r'"([0-9a-f]{32})"', etag)
    return Remote(int(size), etag, headers.get("Last-Modified", ""), plain[1] if is_md5 and plain else "")


def range_start(response: http.client.HTTPResponse) -> int | None:
    """First byte of a partial answer; None where the answer is the whole file."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if response.status == 206 and match else None


def _advice(code: int) -> str:
    """What to do about a refusal."""
    if code in (403, 404, 410):
        return "the file is not there, or not for everyone; check the address (--base-url)"
    return "check the address (--base-url) and your proxy"
