"""Parses multipart forms."""

import re
from collections.abc import Mapping

from nexus.simulator.messages import Request
from nexus.simulator.refusals import Refusal


def form_fields(request: Request) -> Mapping[str, bytes]:
    """Return the fields by name, including files. :raises Refusal: when the body is not a form."""
    boundary = re.search(r'boundary="?([^";]+)', request.header("Content-Type"))
    if boundary is None:
        raise Refusal("invalid", detail="a multipart form is required")
    fields = {}
    for part in (b"\r\n" + request.body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := re.search(rb'[; ]name="([^"]*)"', head):
            fields[name[1].decode()] = content
    return fields
