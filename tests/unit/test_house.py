"""The rules of the house that no linter knows, held against every file of the packages."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("billing", "models", "gateway", "tasks", "worker", "web", "cli", "sandbox", "migrations")
OURS = frozenset(PACKAGES)
# One word, one meaning (the glossary). The local Stripe speaks Stripe's language, where a fee is a field.
BANNED = frozenset({"order", "fee", "cents", "data", "info", "manager", "helper", "utils"})
LONGEST_FUNCTION, LONGEST_FILE = 60, 400
# Celery is a doorbell, no clock: days live in `due_at` columns, since a message with an ETA comes back
# again and again once it is older than the broker's visibility timeout.
DELAYS = frozenset({"countdown", "eta"})
CLOCK_READS = frozenset(
    {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "localtime"}
)


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (PROJECT / package).rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports(tree: ast.Module) -> Iterator[str]:
    """The top package of every absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def money_sins(tree: ast.Module) -> Iterator[str]:
    """Floats, true divisions and clock reads, each with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield f"line {line}: a float"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield f"line {line}: a true division"
        elif isinstance(node, ast.Name) and node.id == "float":
            yield f"line {line}: float"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
            owner = node.func.value
            if node.func.attr in CLOCK_READS and isinstance(owner, ast.Name) and owner.id in CLOCK_OWNERS:
                yield f"line {line}: reads the clock"


CLOCK_OWNERS = frozenset({"datetime", "date", "time"})


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every name that a file gives: functions, classes, arguments, variables, attributes of its classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def words_of(name: str) -> list[str]:
    """`createdAtUtc` and `created_at_utc` alike as their lower-case words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")


@pytest.mark.parametrize("path", sources("billing"), ids=named)
def test_the_rules_know_only_the_standard_library_and_no_float_or_clock(path: Path) -> None:
    tree = tree_of(path)
    assert set(imports(tree)) <= sys.stdlib_module_names | {"billing"}
    assert list(money_sins(tree)) == []


def test_the_search_for_sins_finds_them() -> None:
    sins = "import datetime\na = 1.5\nb = a / 2\na /= 2\nc = float('1')\nd = datetime.now()\n"
    assert [sin.partition(":")[0] for sin in sorted(money_sins(ast.parse(sins)))] == [
        f"line {number}" for number in (2, 3, 4, 5, 6)
    ]


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=named)
def test_only_gateway_imports_stripe(path: Path) -> None:
    if path.relative_to(PROJECT).parts[0] != "gateway":
        assert "stripe" not in set(imports(tree_of(path)))


@pytest.mark.parametrize("path", sources("sandbox"), ids=named)
def test_the_local_stripe_is_a_stranger(path: Path) -> None:
    assert set(imports(tree_of(path))) & OURS <= {"sandbox"}


@pytest.mark.parametrize("path", sources("tasks", "worker", "web", "cli"), ids=named)
def test_nothing_is_sent_to_the_queue_for_later(path: Path) -> None:
    delayed = [
        f"line {node.value.lineno}: {node.arg}="
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.keyword) and node.arg in DELAYS
    ]
    assert delayed == []


@pytest.mark.parametrize("path", sources(*(OURS - {"sandbox"})), ids=named)
def test_the_glossarys_banned_words_name_nothing(path: Path) -> None:
    banned = [
        f"line {line}: {name}" for line, name in defined_names(tree_of(path)) if BANNED & set(words_of(name))
    ]
    assert banned == []
    assert not BANNED & set(words_of(path.stem))


# A migration is one list of statements, as long as the schema is.
@pytest.mark.parametrize("path", sources(*(OURS - {"migrations"})), ids=named)
def test_functions_and_files_stay_readable(path: Path) -> None:
    text = path.read_text()
    long_functions = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long_functions == []
    assert len(text.splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_owns(package: str) -> None:
    assert (PROJECT / package / "README.md").exists()
