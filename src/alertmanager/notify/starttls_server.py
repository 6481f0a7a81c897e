"""An SMTP server for a test: STARTTLS and AUTH are required; every message is printed as a line of JSON."""
import asyncio, json, ssl, sys
from aiosmtpd.smtp import AuthResult, SMTP


class Handler:
    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({
            "from": envelope.mail_from, "to": envelope.rcpt_tos,
            "tls": session.ssl is not None, "user": session.auth_data,
            "message": envelope.content.decode(),
        }), flush=True)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    known = (data.login, data.password) == (b"me", "pässword".encode())
    return AuthResult(success=known, handled=False, auth_data=data.login.decode() if known else None)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Handler(), hostname="localhost", tls_context=context, require_starttls=True,
                     authenticator=authenticate, auth_required=True, loop=loop),
        host="127.0.0.1", port=0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    # The test closes our input when it is done.
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
