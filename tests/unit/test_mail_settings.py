"""The mail server's address: read, refused, and shown to nobody."""

import traceback

import pytest

from tasks.settings import BadSetting, MailServer, Settings

REQUIRED = {
    "DATABASE_URL": "postgresql://a",
    "DATABASE_AUDITOR_URL": "postgresql://b",
    "REDIS_URL": "redis://a",
    "STRIPE_API_KEY": "sk_test_1",
    "STRIPE_WEBHOOK_SECRET": "whsec_1",
    "SECRET_KEY": "s" * 32,
    "KEY_PEPPER": "p" * 32,
}
SENDER = "Rozitech <billing@rozitech.example>"


def smtp(url: str) -> MailServer | None:
    return Settings.from_environ({**REQUIRED, "SMTP_URL": url, "MAIL_FROM": SENDER}).smtp


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example", MailServer(host="mail.example", port=25, security="none")),
        (
            "smtp+starttls://ada:p%40ss@mail.example",
            MailServer(host="mail.example", port=587, security="starttls", user="ada", password="p@ss"),
        ),
        (
            "smtps://ada:word@mail.example:10465",
            MailServer(host="mail.example", port=10465, security="tls", user="ada", password="word"),
        ),
    ],
)
def test_an_address_says_where_and_how(url: str, server: MailServer) -> None:
    assert smtp(url) == server


@pytest.mark.parametrize("url", ["http://word@mail.example", "smtp://", "word", "smtp://mail:word"])
def test_a_malformed_address_is_named_and_not_shown(url: str) -> None:
    with pytest.raises(BadSetting, match="SMTP_URL is malformed") as refused:
        smtp(url)
    shown = "".join(traceback.format_exception(refused.value))
    assert "word" not in shown.replace("password", "")


@pytest.mark.parametrize("sender", ["", "Rozitech", "a@b\nBcc: c@d.example"])
def test_mail_needs_a_sender(sender: str) -> None:
    with pytest.raises(BadSetting, match="MAIL_FROM"):
        Settings.from_environ({**REQUIRED, "SMTP_URL": "smtp://mail.example", "MAIL_FROM": sender})


def test_no_server_is_no_mail_and_secrets_are_in_no_text() -> None:
    assert Settings.from_environ(REQUIRED).smtp is None
    settings = Settings.from_environ({**REQUIRED, "SMTP_URL": "smtp://ada:word@mail", "MAIL_FROM": SENDER})
    assert "word" not in repr(settings)
    assert "word" not in repr(settings.smtp)
