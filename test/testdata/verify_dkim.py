"""Verifies every DKIM signature of a message with dkimpy.

usage: verify_dkim.py MESSAGE RECORDS
MESSAGE is a file with CRLF line ends; RECORDS is a JSON object, name to TXT value.
Prints one line per signature, "ALGORITHM pass|fail DOMAIN SELECTOR".
"""

import json
import re
import sys

import dkim

message = open(sys.argv[1], "rb").read()
records = json.load(open(sys.argv[2]))


def txt(name, timeout=5):
    name = name.decode() if isinstance(name, bytes) else name
    return records.get(name.rstrip("."), "").encode()


count = sum(1 for name, _ in dkim.rfc822_parse(message)[0] if name.lower() == b"dkim-signature")
for index in range(count):
    verifier = dkim.DKIM(message)
    verdict = "fail"
    try:
        if verifier.verify(idx=index, dnsfunc=txt):
            verdict = "pass"
    except dkim.DKIMException as error:
        verdict = "fail (%s)" % error
    field = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"][index].decode()
    tag = dict(re.findall(r"\b([a-z]+)\s*=\s*([^;\s]+)", field))
    print(tag["a"], verdict, tag["d"], tag["s"])
