"""Prints, as JSON, what Python's email package finds in a delivery status notification.

usage: read_dsn.py < MESSAGE
"""

import email
import email.policy
import json
import quopri
import sys

raw = sys.stdin.buffer.read()
message = email.message_from_bytes(raw, policy=email.policy.default)
parts = list(message.iter_parts())


def fields(block):
    return {name.lower(): str(value) for name, value in block.items()}


def international():
    """Takes message/global-delivery-status apart, which Python knows no more of than that it is a message."""
    for part in email.message_from_bytes(raw).walk():
        if part.get_content_type() == "message/global-delivery-status":
            body = part.as_bytes().split(b"\n\n", 1)[1]
            if part["Content-Transfer-Encoding"] == "quoted-printable":
                body = quopri.decodestring(body)
            text = body.decode().replace("\r\n", "\n").strip()
            return [fields(email.message_from_string(block, policy=email.policy.default)) for block in text.split("\n\n")]
    return []


groups = international()
for part in parts:
    if part.get_content_type() == "message/delivery-status":
        groups = [fields(block) for block in part.get_payload()]
defects = [repr(d) for p in message.walk() for d in p.defects]
print(json.dumps({
    "header": fields(message),
    "report": message.get_param("report-type") or "",
    "types": [p.get_content_type() for p in parts],
    "human": parts[0].get_content() if parts and parts[0].get_content_maintype() == "text" else "",
    "message": groups[0] if groups else {},
    "recipients": groups[1:],
    "returned": parts[2].as_string() if len(parts) > 2 else "",
    "defects": defects,
}))
