"""What the start of a local system hands to which process, decided without starting any."""

from pathlib import Path

import pytest

from cli.local.credentials import Credentials
from cli.local.database import DatabaseUrls, derived_urls
from cli.local.environment import build_environment, check_given, child_environ
from cli.local.errors import StackError

PORTS = {"web": 8001, "flower": 5556, "sandbox": 12112, "postgres": 5434, "valkey": 6381}
URLS = DatabaseUrls("postgresql://owner", "postgresql://app", "postgresql://auditor", "a", "b")


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path / "secrets.json")


def environment(credentials: Credentials, **given: str) -> dict[str, str]:
    return build_environment(given, URLS, "redis://app", credentials, ports=PORTS, state_dir=Path("/state"))


def test_without_settings_everything_is_local_and_generated(credentials: Credentials) -> None:
    built = environment(credentials)
    assert built["STRIPE_API_BASE"] == "http://127.0.0.1:12112"
    assert built["STRIPE_API_KEY"].startswith("sk_test_local")
    assert built["PUBLIC_URL"] == "http://127.0.0.1:8001"
    assert built["STRIPE_CALLS_PER_SECOND"] == "0"
    assert all(built[name] for name in ("SECRET_KEY", "KEY_PEPPER", "ADMIN_PASSWORD", "FLOWER_BASIC_AUTH"))


def test_a_test_key_of_the_person_goes_to_stripe_itself(credentials: Credentials) -> None:
    given = {"STRIPE_API_KEY": "sk_test_theirs", "STRIPE_API_BASE": "http://127.0.0.1:1"}
    built = environment(credentials, **given)
    assert built["STRIPE_API_KEY"] == "sk_test_theirs"
    assert "STRIPE_CALLS_PER_SECOND" not in built
    for seen in (built, child_environ(given, built, PORTS, Path("/state"), name="worker-billing")):
        assert "STRIPE_API_BASE" not in seen


def test_settings_of_the_person_win_where_they_are_theirs(credentials: Credentials) -> None:
    built = environment(credentials, SECRET_KEY="theirs", ADMIN_EMAIL="ada@example.com", KEY_PEPPER="")
    assert built["SECRET_KEY"] == "theirs"
    assert built["ADMIN_EMAIL"] == "ada@example.com"
    assert built["KEY_PEPPER"] == credentials["key_pepper"]


def test_the_next_start_finds_the_same_secrets(tmp_path: Path) -> None:
    first = environment(Credentials(tmp_path / "secrets.json"))
    assert environment(Credentials(tmp_path / "secrets.json")) == first
    assert environment(Credentials(tmp_path / "others.json"))["SECRET_KEY"] != first["SECRET_KEY"]


def test_processes_do_not_act_as_the_owner_and_the_local_stripe_knows_nothing(
    credentials: Credentials,
) -> None:
    given = {"HOME": "/home/ada", "DATABASE_OWNER_URL": "postgresql://theirs", "SECRET_KEY": "theirs"}
    built = environment(credentials, **given)
    web = child_environ(given, built, PORTS, Path("/state"), name="web")
    sandbox = child_environ(given, built, PORTS, Path("/state"), name="sandbox")
    assert web["DATABASE_URL"] == "postgresql://app"
    assert web["HOME"] == sandbox["HOME"] == "/home/ada"
    assert "DATABASE_OWNER_URL" not in web
    assert sandbox["SANDBOX_PORT"] == "12112"
    assert not {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "STRIPE_API_KEY", "ADMIN_PASSWORD"} & set(sandbox)


def test_the_mail_server_is_known_to_commands_too_and_not_to_the_local_stripe(
    credentials: Credentials,
) -> None:
    given = {"SMTP_URL": "smtp://ada:word@mail", "MAIL_FROM": "a@b.example", "SELLER_NAME": ""}
    built = environment(credentials, **given)
    assert (built["SMTP_URL"], built["MAIL_FROM"]) == ("smtp://ada:word@mail", "a@b.example")
    assert "SELLER_NAME" not in built
    assert "SMTP_URL" not in child_environ(given, built, PORTS, Path("/state"), name="sandbox")


def test_a_proxy_for_the_world_is_not_one_for_loopback(credentials: Credentials) -> None:
    web = child_environ({"NO_PROXY": "intranet"}, environment(credentials), PORTS, Path("/state"), name="web")
    assert web["NO_PROXY"] == web["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_the_roles_urls_keep_host_database_and_options(credentials: Credentials) -> None:
    urls = derived_urls("postgresql://owner:p%40ss@db.example:5432/billing?sslmode=require", credentials)
    secret = credentials["postgres_app"]
    assert urls.app == f"postgresql://dunlin_app:{secret}@db.example:5432/billing?sslmode=require"
    assert urls.auditor.startswith("postgresql://dunlin_auditor:")


@pytest.mark.parametrize("key", ["sk_live_x", "rk_live_x"])
def test_live_keys_are_refused(key: str) -> None:
    with pytest.raises(StackError, match="live-mode"):
        check_given({"STRIPE_API_KEY": key})


@pytest.mark.parametrize("key", ["", "sk_test_x", "rk_test_x"])
def test_test_keys_are_not(key: str) -> None:
    check_given({"STRIPE_API_KEY": key})
