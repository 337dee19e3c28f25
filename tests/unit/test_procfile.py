"""The Procfile: what it may say, and how a command line comes out of it."""

from pathlib import Path

import pytest

from cli.local.errors import StackError
from cli.local.procfile import expand, read_procfile

PROJECT = Path(__file__).resolve().parents[2]


def test_names_commands_and_comments(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("# who\nweb: serve --port $PORT\n\nworker-a: work  # not a comment\n")
    assert read_procfile(tmp_path / "Procfile") == {
        "web": "serve --port $PORT",
        "worker-a": "work  # not a comment",
    }


@pytest.mark.parametrize("text", ["serve --port 1\n", "web:\n", "two words: serve\n", "web: a\nweb: b\n"])
def test_a_line_that_is_no_process_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "Procfile").write_text(text)
    with pytest.raises(StackError, match=r"Procfile line [12]"):
        read_procfile(tmp_path / "Procfile")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("serve --port $PORT", ["serve", "--port", "8000"]),
        ("serve --port=${PORT}", ["serve", "--port=8000"]),
        ("serve ${HOST:-127.0.0.1}", ["serve", "127.0.0.1"]),
        ("serve ${PORT:-1}", ["serve", "8000"]),
        ("serve ${EMPTY:-none}", ["serve", "none"]),
        ("beat --schedule $STATE/beat", ["beat", "--schedule", "/a dir/beat"]),
        ("python -c 'print(1)'", ["python", "-c", "print(1)"]),
    ],
)
def test_variables_are_replaced_inside_words(command: str, words: list[str]) -> None:
    assert expand(command, {"PORT": "8000", "STATE": "/a dir", "EMPTY": ""}) == words


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(StackError, match=r"\$PORT"):
        expand("serve $PORT", {})


def test_our_own_procfiles_name_no_secret_and_need_only_what_a_start_gives() -> None:
    given = {"PORT": "1", "FLOWER_PORT": "2", "SANDBOX_PORT": "3", "STATE_DIR": "/state", "HOST": "127.0.0.1"}
    production = read_procfile(PROJECT / "Procfile")
    development = read_procfile(PROJECT / "Procfile.dev")
    assert [*production] == ["web", "worker-ingest", "worker-billing", "beat", "flower"]
    assert [*development] == ["sandbox"]
    for command in (production | development).values():
        words = expand(command, given)
        assert not any(secret in " ".join(words).lower() for secret in ("password", "secret", "auth", "key"))


def test_compose_runs_every_process_with_the_same_queues() -> None:
    compose = (PROJECT / "docker-compose.yml").read_text()
    for name, command in read_procfile(PROJECT / "Procfile").items():
        assert f"\n  {name}:\n" in compose
        words = expand(command, {"PORT": "8000"})
        if "--queues" in words:
            assert f'--queues, "{words[words.index("--queues") + 1]}"' in compose
