"""A mail server that keeps what it takes: each message becomes a line of JSON. For tests; of Debian's python3-aiosmtpd.

With a certificate it insists on STARTTLS and on one user with a password.
"""

import argparse
import asyncio
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult

options = argparse.ArgumentParser()
options.add_argument("--port", type=int, default=0)
options.add_argument("--certificate")
options.add_argument("--key")
options.add_argument("--user")
options.add_argument("--password")
options = options.parse_args()


class Keeper:
    async def handle_DATA(self, server, session, envelope):
        data = envelope.content.decode("utf-8")
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "data": data}), flush=True)
        return "250 taken"


def known(server, session, envelope, mechanism, login):
    right = (login.login, login.password) == (options.user.encode(), options.password.encode())
    return AuthResult(success=right, handled=False)


def connection():
    if not options.certificate:
        return SMTP(Keeper(), hostname="mail.test")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(options.certificate, options.key)
    return SMTP(
        Keeper(), hostname="mail.test", tls_context=tls, require_starttls=True, auth_required=True, authenticator=known
    )


async def main():
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", options.port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
