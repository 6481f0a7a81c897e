"""A real SMTP server on a port of the system's choice, which it prints to standard error. Every message goes into
the folder of the first argument as a JSON file: envelope, headers, and the parts as the MIME library reads them."""

import asyncio
import email
import email.policy
import json
import os
import sys

from aiosmtpd.smtp import SMTP


class Folder:
    def __init__(self, path):
        self.path = path
        self.count = 0

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = [
            {"type": part.get_content_type(), "text": part.get_content()}
            for part in message.walk()
            if not part.is_multipart()
        ]
        mail = {
            "mail_from": envelope.mail_from,
            "rcpt_tos": envelope.rcpt_tos,
            "content_type": message.get_content_type(),
            "headers": {name: str(value) for name, value in message.items()},
            "defects": [str(defect) for defect in message.defects],
            "parts": parts,
        }
        self.count += 1
        final = os.path.join(self.path, f"{self.count:04}.json")
        with open(final + ".draft", "w") as out:
            json.dump(mail, out)
        os.rename(final + ".draft", final)
        return "250 OK"


async def main():
    handler = Folder(sys.argv[1])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, hostname="localhost"), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f'msg="Listening on" address={host}:{port}', file=sys.stderr, flush=True)
    await server.serve_forever()


asyncio.run(main())
