"""A mail server for the tests: speaks enough SMTP for smtplib, and can refuse or put off."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage


class MailServer(socketserver.ThreadingTCPServer):
    """`mails` are what it took; `recipient_says` and `data_says` answer instead of 250 while they are set."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Talk)
        self.mails: list[EmailMessage] = []
        self.logins: list[str] = []
        self.recipient_says: str | None = None
        self.data_says: str | None = None

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Talk(socketserver.StreamRequestHandler):
    server: MailServer

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        self._say("220 test")
        while line := self.rfile.readline().decode().strip():
            verb = line.partition(" ")[0].upper()
            if verb == "QUIT":
                self._say("221 bye")
                return
            self._answer(verb, line)

    def _answer(self, verb: str, line: str) -> None:
        if verb == "EHLO":
            self._say("250-test")
            self._say("250-AUTH PLAIN")
            self._say("250 8BITMIME")
        elif verb == "AUTH":
            self.server.logins.append(line.rpartition(" ")[2])
            self._say("235 welcome")
        elif verb == "RCPT":
            self._say(self.server.recipient_says or "250 ok")
        elif verb == "DATA":
            self._take()
        else:
            self._say("250 ok")

    def _take(self) -> None:
        self._say("354 go on")
        lines = iter(self.rfile.readline, b".\r\n")
        content = b"".join(line[1:] if line.startswith(b".") else line for line in lines)
        if self.server.data_says is None:
            self.server.mails.append(message_from_bytes(content, policy=policy.default))
        self._say(self.server.data_says or "250 taken")


@contextmanager
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
