"""Sends one message with Python's smtplib.

usage: send.py HOST PORT plain|starttls USER PASSWORD FROM TO,TO MESSAGE
MESSAGE is a file with CRLF line ends.
"""

import smtplib
import ssl
import sys

host, port, mode, user, password, sender, recipients, path = sys.argv[1:]
options = ["BODY=8BITMIME"]
if not recipients.isascii():
    options.append("SMTPUTF8")
with smtplib.SMTP(host, int(port), local_hostname="client.test", timeout=60) as client:
    client.ehlo()
    if mode == "starttls":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client.starttls(context=context)
        client.ehlo()
    client.login(user, password)
    content = open(path, "rb").read()
    client.sendmail(sender, recipients.split(","), content, mail_options=options)
