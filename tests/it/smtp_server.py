"""A real SMTP server on a port of the system's choice, which it prints to standard error. Every message goes into
the folder of the first argument as a JSON file: envelope, headers, and the parts as the MIME library reads them.
What it does beyond agreeing with everything is asked for by options."""

import argparse
import asyncio
import base64
import email
import email.policy
import hashlib
import hmac
import json
import os
import random
import ssl
import sys
import time

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, MISSING


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--auth", default="", help="mechanisms, in the order in which they are offered")
    parser.add_argument("--user", default="me")
    parser.add_argument("--password", default="pässword")
    parser.add_argument("--token", default="t0ken")
    parser.add_argument("--refuse", action="append", default=[], help="a recipient that is unknown")
    parser.add_argument("--greylist", action="store_true", help="each recipient of a message waits once")
    parser.add_argument("--greylist-share", type=float, default=1.0)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds before a message is accepted")
    parser.add_argument("--drop", type=float, default=0.0, help="share of commands at which it hangs up")
    parser.add_argument("--refuse-share", type=float, default=0.0, help="share of messages that get a 451 at their end")
    parser.add_argument("--busy", type=float, default=0.0, help="share of connections that are greeted by a 421")
    parser.add_argument("--append", help="instead of a file for each message a line in this one: time, identity, group, most connections, subject")
    return parser.parse_args()


class Dropped(Exception):
    pass


def describe(part):
    payload = part.get_content()
    found = {"type": part.get_content_type(), "id": part["Content-ID"], "disposition": part.get_content_disposition()}
    if isinstance(payload, str):
        found["text"] = payload
    else:
        found["base64"] = base64.b64encode(payload).decode()
    return found


def shape(part):
    """The tree of types: `multipart/related(multipart/alternative(text/plain,text/html),image/png)`."""
    if not part.is_multipart():
        return part.get_content_type()
    return part.get_content_type() + "(" + ",".join(shape(inner) for inner in part.iter_parts()) + ")"


class Handler:
    def __init__(self, options):
        self.options = options
        self.count = 0
        self.known = set()
        self.random = random.Random(7)
        self.open = 0
        self.most_open = 0
        self.log = open(options.append, "a", buffering=1) if options.append else None

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        if not self.options.auth:
            return [line for line in responses if not line.startswith("250-AUTH ")]
        # The library has an order of its own.
        ours = "250-AUTH " + self.options.auth
        return [ours if line.startswith("250-AUTH ") else line for line in responses]

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.options.refuse:
            return "550 5.1.1 unknown"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.options.slow:
            await asyncio.sleep(self.options.slow)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        identity = str(message["Message-ID"])
        if self.options.greylist and identity not in self.known:
            self.known.add(identity)
            if self.random.random() < self.options.greylist_share:
                return "451 4.7.1 greylisted"
        if self.random.random() < self.options.refuse_share:
            return "451 4.3.0 not now"
        if self.log:
            self.log.write(f"{time.time():.3f}\t{identity}\t{message['X-Ferula-Group']}\t{self.most_open}\t{message['Subject']}\n")
            return "250 OK"
        parts = [describe(part) for part in message.walk() if not part.is_multipart()]
        lines = envelope.original_content.split(b"\r\n")
        mail = {
            "mail_from": envelope.mail_from,
            "rcpt_tos": envelope.rcpt_tos,
            "content_type": message.get_content_type(),
            "shape": shape(message),
            "headers": {name: str(value) for name, value in message.items()},
            "names": message.keys(),
            "defects": [str(defect) for part in message.walk() for defect in part.defects],
            "header_defects": [str(d) for _, value in message.items() for d in getattr(value, "defects", [])],
            "longest_line": max(len(line) for line in lines),
            "is_ascii": envelope.original_content.isascii(),
            "bare_line_ends": any(b"\r" in line or b"\n" in line for line in lines),
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "user": session.auth_data,
            "parts": parts,
        }
        self.count += 1
        final = os.path.join(self.options.folder, f"{self.count:04}.json")
        with open(final + ".draft", "w") as out:
            json.dump(mail, out)
        os.rename(final + ".draft", final)
        return "250 OK"

    async def auth_CRAM__MD5(self, server, args):
        challenge = b"<1896.697170952@localhost>"
        answer = await server.challenge_auth(challenge)
        if answer is MISSING:
            return AuthResult(success=False)
        wanted = hmac.new(self.options.password.encode(), challenge, hashlib.md5).hexdigest()
        known = answer == f"{self.options.user} {wanted}".encode()
        return AuthResult(success=known, handled=False, auth_data="cram:" + self.options.user)

    async def bearer(self, server, args, name, wanted):
        answer = base64.b64decode(args[1]) if len(args) > 1 else await server.challenge_auth(b"")
        if answer == wanted:
            return AuthResult(success=True, handled=False, auth_data=name + ":" + self.options.user)
        # The reason, to which the client has nothing to say.
        await server.challenge_auth(b'{"status":"401"}')
        return AuthResult(success=False, handled=False)

    async def auth_XOAUTH2(self, server, args):
        wanted = f"user={self.options.user}\x01auth=Bearer {self.options.token}\x01\x01"
        return await self.bearer(server, args, "xoauth2", wanted.encode())

    async def auth_OAUTHBEARER(self, server, args):
        host, port = server.transport.get_extra_info("sockname")[:2]
        wanted = f"n,a={self.options.user},\x01host={host}\x01port={port}\x01auth=Bearer {self.options.token}\x01\x01"
        return await self.bearer(server, args, "oauthbearer", wanted.encode())


class Moody(SMTP):
    """Hangs up at a share of what is said to it, or does not want to begin."""

    def connection_made(self, transport):
        handler = self.event_handler
        handler.open += 1
        handler.most_open = max(handler.most_open, handler.open)
        super().connection_made(transport)

    def connection_lost(self, error):
        self.event_handler.open -= 1
        super().connection_lost(error)

    async def push(self, status):
        handler = self.event_handler
        is_greeting = str(status).startswith("220 ") and self.session.host_name is None
        share = handler.options.busy if is_greeting else handler.options.drop
        if share and handler.random.random() < share:
            if is_greeting:
                await super().push("421 4.3.2 busy")
            self.transport.abort()
            return
        await super().push(status)


async def main():
    options = arguments()
    handler = Handler(options)
    context = None
    if options.tls != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)

    def authenticate(server, session, envelope, mechanism, data):
        wanted = LoginPassword(options.user.encode(), options.password.encode())
        # The library does not say who one wants to be.
        return AuthResult(success=data == wanted, handled=False, auth_data=f"{mechanism.lower()}:{options.user}")

    loop = asyncio.get_running_loop()
    settings = {"hostname": "localhost", "loop": loop, "enable_SMTPUTF8": True, "data_size_limit": 30_000_000}
    if options.tls == "starttls":
        settings |= {"tls_context": context, "require_starttls": True}
    if options.auth:
        offered = options.auth.split()
        every = ["CRAM-MD5", "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"]
        settings |= {
            "authenticator": authenticate,
            "auth_required": True,
            "auth_require_tls": options.tls == "starttls",
            "auth_exclude_mechanism": [name for name in every if name not in offered],
        }
    implicit = context if options.tls == "implicit" else None
    server = await loop.create_server(lambda: Moody(handler, **settings), "127.0.0.1", 0, ssl=implicit)
    host, port = server.sockets[0].getsockname()
    print(f'msg="Listening on" address={host}:{port}', file=sys.stderr, flush=True)
    await server.serve_forever()


asyncio.run(main())
