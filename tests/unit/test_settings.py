"""Settings: every wrong value is one line that names the variable, the problem and an example (quality §4)."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cutover.domain.errors import BadSetting
from cutover.settings import Settings, load, secret_files
from cutover.tenant_settings import is_loopback, masked_url, names_private_place

GOOD = {"DATABASE_URL": "postgres://u:hunter2@db:5432/tenant", "MEMORY_PLUGIN_URL": "http://127.0.0.1:9100"}


def load_with(tmp_path: Path, **variables: str) -> Settings:
    return load({**GOOD, **variables}, directory=tmp_path)


def error_of(tmp_path: Path, variables: dict[str, str]) -> str:
    with pytest.raises(BadSetting) as caught:
        load(variables, directory=tmp_path)
    return caught.value.message


def test_defaults_are_the_designs(tmp_path: Path) -> None:
    settings = load(GOOD, directory=tmp_path)
    assert (settings.quarantine_seconds, settings.delivery_deadline, settings.boot_gate) == (10.0, 1.2, 30.0)
    assert (settings.plugin_listen, settings.memories_listen, settings.ops_listen) == (
        "127.0.0.1:9200",
        "127.0.0.1:9201",
        "127.0.0.1:9202",
    )
    assert (settings.refuse, settings.plugin_timeout, settings.sweep_interval) == ("all", 2.0, 60.0)
    (tenant,) = settings.tenants
    assert (tenant.name, tenant.default, tenant.plugin_database_url) == ("default", True, None)
    assert settings.warnings == ()
    assert dict(settings.admins) == {}


@pytest.mark.parametrize(("text", "seconds"), [("2", 2.0), ("2s", 2.0), ("1500ms", 1.5), ("0.5", 0.5), ("0.5m", 30.0)])
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    assert load_with(tmp_path, MEMORY_PLUGIN_TIMEOUT=text, CUTOVER_QUARANTINE_SECONDS="40").plugin_timeout == seconds


def test_sizes_commands_and_lists(tmp_path: Path) -> None:
    settings = load_with(
        tmp_path,
        CUTOVER_BODY_LIMIT="512KiB",
        CUTOVER_PLUGIN_COMMAND="plugin --flag 'two words'",
        CUTOVER_KNOWN_WRITERS="workspace-server, psql,,seed",
    )
    assert settings.body_limit == 512 * 1024
    assert settings.tenants[0].plugin_command == ("plugin", "--flag", "two words")
    assert settings.known_writers == ("workspace-server", "psql", "seed")
    assert load_with(tmp_path, CUTOVER_PLUGIN_COMMAND="p", MEMORY_PLUGIN_DISABLE="1").tenants[0].plugin_command is None


WRONG = [
    ("DATABASE_URL", "mysql://u:hunter2@db/x", "is not a PostgreSQL URL"),
    ("DATABASE_URL", "postgres://u:hunter2@db:99999/x", "has a port"),
    ("DATABASE_URL", "postgres://u:hunter2@db", "names no database"),
    ("MEMORY_PLUGIN_URL", "localhost:9100", "is not an http"),
    ("MEMORY_PLUGIN_URL", "http://u:hunter2@h:port", "has a port"),
    ("MEMORY_PLUGIN_URL", "http://h/?x=hunter2", "has a query"),
    ("MEMORY_PLUGIN_URL", "unix:relative", "needs an absolute path"),
    ("MEMORY_PLUGIN_URL", "http+unix://relative", "needs an absolute path"),
    ("MEMORY_PLUGIN_DATABASE_URL", "never", "is not a PostgreSQL URL"),
    ("MEMORY_PLUGIN_TIMEOUT", "soon", "is not a duration"),
    ("MEMORY_PLUGIN_TIMEOUT", "0", "is not above 0"),
    ("MEMORY_PLUGIN_DISABLE", "perhaps", "is neither yes nor no"),
    ("CUTOVER_TENANT", "Acme Inc", "is not a name"),
    ("CUTOVER_PLUGIN_LISTEN", "9200", "is not host:port"),
    ("CUTOVER_OPS_LISTEN", "127.0.0.1:70000", "is not host:port"),
    ("CUTOVER_MEMORIES_LISTEN", "unix:sock", "is not host:port"),
    ("CUTOVER_MEMORIES_AUTH", "none", "is not one of"),
    ("CUTOVER_UPSTREAM_URL", "ftp://h", "is not an http"),
    ("CUTOVER_ADMIN_TOKEN", "hunter2", "is shorter than 16"),
    ("CUTOVER_BODY_LIMIT", "2 GB", "is not a size"),
    ("CUTOVER_BODY_LIMIT", "10", "is below 1024"),
    ("CUTOVER_PLUGIN_COMMAND", "plugin 'open", "has a quote"),
    ("CUTOVER_SHADOW_READ_RATIO", "1.5", "is above 1"),
    ("CUTOVER_SHADOW_READ_RATIO", "nan", "is not a finite number"),
    ("CUTOVER_SHADOW_READ_RATIO", "half", "is not a number"),
    ("CUTOVER_KV", "yes", "is not one of 'on' or 'off'"),
    ("CUTOVER_MAX_IN_FLIGHT", "2.5", "is not a whole number"),
    ("CUTOVER_MAX_BACKLOG_MARKS", "0", "is below 1"),
    ("CUTOVER_REFUSE", "reads", "is not one of"),
    ("CUTOVER_LOG_LEVEL", "loud", "is not one of"),
    ("CUTOVER_BACKFILL_PAUSE_FILE", "/nowhere/at/all/pause", "names a file in a directory"),
    ("CUTOVER_DELIVERY_DEADLINE", "1.9", "must be below CUTOVER_ANSWER_DEADLINE"),
    ("CUTOVER_QUARANTINE_SECONDS", "1", "must be at least MEMORY_PLUGIN_TIMEOUT"),
]


@pytest.mark.parametrize(("variable", "value", "problem"), WRONG)
def test_a_wrong_value_is_one_line_with_variable_problem_and_example(
    tmp_path: Path, variable: str, value: str, problem: str
) -> None:
    message = error_of(tmp_path, {**GOOD, variable: value})
    assert message.startswith(variable + " ")
    assert problem in message
    assert f"; for example {variable}=" in message
    assert "\n" not in message
    assert "hunter2" not in message


def test_every_example_is_itself_accepted(tmp_path: Path) -> None:
    """Nobody should be shown an example that the next start refuses."""
    files = {"CUTOVER_TENANTS_FILE", "CUTOVER_ADMIN_TOKENS_FILE", "CUTOVER_BACKFILL_PAUSE_FILE", "CUTOVER_ADMIN_TOKEN"}
    for field in Settings.model_fields.values():
        name = str(field.validation_alias)
        assert field.examples, name
        if name not in files:
            load_with(tmp_path, **{name: str(field.examples[0])})


@pytest.mark.parametrize("missing", ["DATABASE_URL", "MEMORY_PLUGIN_URL"])
def test_a_missing_address_stops_the_start(tmp_path: Path, missing: str) -> None:
    message = error_of(tmp_path, {name: value for name, value in GOOD.items() if name != missing})
    assert message.startswith(f"{missing} is not set; for example {missing}=")
    assert error_of(tmp_path, {**GOOD, missing: "  "}) == message


def test_the_environment_wins_over_dotenv_and_dotenv_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "cutover.toml"
    config.write_text('cutover_tenant = "from-file"\nCUTOVER_REFUSE = "writes"\ncutover_max_in_flight = 7\n')
    (tmp_path / ".env").write_text("CUTOVER_TENANT=from-dotenv\nCUTOVER_LOG_LEVEL=debug\n")
    settings = load_with(tmp_path, CUTOVER_CONFIG=str(config), CUTOVER_LOG_LEVEL="error")
    assert (settings.tenant, settings.refuse, settings.max_in_flight, settings.log_level) == (
        "from-dotenv",
        "writes",
        7,
        "error",
    )


def test_an_unknown_name_is_told_with_what_was_meant(tmp_path: Path) -> None:
    config = tmp_path / "cutover.toml"
    config.write_text("cutover_shadow_ratio = 0.5\n")
    message = error_of(tmp_path, {**GOOD, "CUTOVER_CONFIG": str(config)})
    assert "did you mean CUTOVER_SHADOW_READ_RATIO?" in message
    settings = load_with(
        tmp_path, CUTOVER_MAX_INFLIGHT="3", CUTOVER_SERVICE_HOST="10.0.0.1", CUTOVER_PORT_9200_TCP="tcp://10.0.0.1:9200"
    )
    assert settings.warnings == (
        "CUTOVER_MAX_INFLIGHT is set, but it is no setting; did you mean CUTOVER_MAX_IN_FLIGHT?",
    )


def test_a_broken_config_file_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "cutover.toml"
    config.write_text('cutover_admin_token = "hunter2hunter2hunter2\n')
    message = error_of(tmp_path, {**GOOD, "CUTOVER_CONFIG": str(config)})
    assert "is not TOML (at" in message
    assert "hunter2" not in message
    assert "cannot be read" in error_of(tmp_path, {**GOOD, "CUTOVER_CONFIG": str(tmp_path / "absent.toml")})


def test_trusted_network_needs_a_listener_only_this_machine_reaches(tmp_path: Path) -> None:
    message = error_of(
        tmp_path,
        {**GOOD, "CUTOVER_MEMORIES_AUTH": "trusted-network", "CUTOVER_MEMORIES_LISTEN": "0.0.0.0:9201"},
    )
    assert message.startswith("CUTOVER_MEMORIES_AUTH is trusted-network")
    for listener in ("127.0.0.1:9201", "[::1]:9201", "localhost:9201", "unix:/run/m.sock", "off"):
        settings = load_with(tmp_path, CUTOVER_MEMORIES_AUTH="trusted-network", CUTOVER_MEMORIES_LISTEN=listener)
        assert any("trusted-network" in warning for warning in settings.warnings)


def test_a_public_plugin_address_is_warned_about_but_not_refused(tmp_path: Path) -> None:
    (warning,) = load_with(tmp_path, MEMORY_PLUGIN_URL="https://memory.example.com").warnings
    assert "no authentication" in warning


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("unix:/run/plugin.sock", True),
        ("http+unix://%2Frun%2Fplugin.sock", True),
        ("http://localhost:9100", True),
        ("http://127.0.0.1:9100", True),
        ("http://[::1]:9100", True),
        ("http://10.1.2.3:9100", True),
        ("http://[fd00::1]:9100", True),
        ("http://plugin:9100", True),
        ("http://plugin.ns.svc.cluster.local", True),
        ("http://8.8.8.8:9100", False),
        ("https://plugin.example.com", False),
    ],
)
def test_private_places(url: str, private: bool) -> None:
    assert names_private_place(url) is private


def test_loopback_is_not_what_merely_looks_like_it() -> None:
    assert not is_loopback("localhost.example.com:1")
    assert not is_loopback("[::]:9201")
    assert is_loopback("127.0.0.1:1,unix:/run/m.sock")
    assert not is_loopback("127.0.0.1:1, 10.0.0.1:1")


def test_redacted_shows_no_secret_and_the_hash_follows_the_settings(tmp_path: Path) -> None:
    secret = {
        "CUTOVER_ADMIN_TOKEN": "hunter2hunter2hunter2",
        "MEMORY_PLUGIN_DATABASE_URL": "postgres://u:hunter2@db/x?sslpassword=hunter2",
        "CUTOVER_PLUGIN_COMMAND": "plugin --password hunter2",
        "CUTOVER_UPSTREAM_URL": "http://u:hunter2@up",
    }
    settings = load_with(tmp_path, **secret)
    assert "hunter2" not in str(settings.redacted())
    assert "hunter2" not in repr(settings.tenants)
    assert settings.redacted()["DATABASE_URL"] == "postgres://u:***@db:5432/tenant"
    other_password = load_with(tmp_path, **{**secret, "CUTOVER_ADMIN_TOKEN": "hunter3hunter3hunter3"})
    assert settings.config_hash() == other_password.config_hash()
    assert settings.config_hash() != load_with(tmp_path, **secret, CUTOVER_REFUSE="writes").config_hash()
    elsewhere = load_with(tmp_path, **secret, CUTOVER_OPS_LISTEN="127.0.0.1:1234", CUTOVER_LOG_FORMAT="json")
    assert settings.config_hash() == elsewhere.config_hash()
    gate = load_with(tmp_path, **secret, CUTOVER_GATE_SOAK="1h")
    assert settings.config_hash() != gate.config_hash()


def test_masked_url_keeps_what_is_no_secret() -> None:
    assert masked_url("postgres://db/x?search_path=a,b") == "postgres://db/x?search_path=a,b"
    assert masked_url("postgres://:pw@db/x") == "postgres://:***@db/x"
    assert masked_url("unix:/run/p.sock") == "unix:/run/p.sock"


def test_admin_tokens_name_their_holders(tmp_path: Path) -> None:
    token = tmp_path / "alice"
    token.write_text("alice-alice-alice-alice\n")
    tokens = tmp_path / "tokens.toml"
    digests = {name: sha256(f"{name}-{name}-{name}-{name}".encode()).hexdigest() for name in ("carol", "dave")}
    tokens.write_text(
        f'[tokens]\nalice = "file:{token}"\nbob = "env:BOB"\n'
        f'carol = "sha256:{digests["carol"]}"\n"dave@example" = "{digests["dave"].upper()}"\n'
    )
    variables = {
        "CUTOVER_ADMIN_TOKENS_FILE": str(tokens),
        "BOB": "bob-bob-bob-bob-bob",
        "CUTOVER_ADMIN_TOKEN": "env:ROOT",
        "ROOT": "root-root-root-root",
    }
    settings = load_with(tmp_path, **variables)
    held = {
        "admin": "root-root-root-root",
        "alice": "alice-alice-alice-alice",
        "bob": "bob-bob-bob-bob-bob",
        "carol": "carol-carol-carol-carol",
        "dave@example": "dave-dave-dave-dave",
    }
    assert settings.admins == {name: sha256(text.encode()).digest() for name, text in held.items()}
    assert settings.redacted()["admins"] == sorted(held)
    assert "same token" in error_of(tmp_path, {**GOOD, **variables, "BOB": "root-root-root-root"})
    assert "same token" in error_of(tmp_path, {**GOOD, **variables, "BOB": "alice-alice-alice-alice"})
    assert "shorter than 16" in error_of(tmp_path, {**GOOD, **variables, "BOB": "bob"})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('ada = "ada-ada-ada-ada-ada"', "ada holds a secret in plain text"),
        ('ada = "sha256:ada-ada-ada-ada-ada"', "ada is no sha256: 64 hex digits must follow"),
        (f'ada = "{"0" * 63}"', "ada holds a secret in plain text"),
        (f'ada = "sha512:{"0" * 64}"', "ada holds a secret in plain text"),
        (f'admin = "{"0" * 64}"', "admin is the name of CUTOVER_ADMIN_TOKEN"),
        (f'"" = "{"0" * 64}"', "'' is no name"),
        (f'"ada lovelace" = "{"0" * 64}"', "'ada lovelace' is no name"),
        (f'ada = "{"0" * 64}"\ngrace = "sha256:{"0" * 64}"', "grace has the same token as somebody else"),
        ('ada = "env:NOBODY"', "env:NOBODY, which is not set"),
        ("", "has no table [tokens]"),
    ],
)
def test_a_bad_line_of_the_tokens_file_is_named_and_not_repeated(tmp_path: Path, line: str, problem: str) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f"[tokens]\n{line}\n")
    variables = {"CUTOVER_ADMIN_TOKENS_FILE": str(tokens), "CUTOVER_ADMIN_TOKEN": "root-root-root-root"}
    message = error_of(tmp_path, {**GOOD, **variables})
    assert message.startswith("CUTOVER_ADMIN_TOKENS_FILE")
    assert problem in message
    assert "example" in message
    assert "ada-ada" not in message


TENANTS = """
[[tenant]]
name = "acme"
database_url = "env:ACME_DB"
plugin_url = "http://127.0.0.1:9101"
default = true

[[tenant]]
name = "globex"
database_url = "postgres://127.0.0.1/globex"
plugin_url = "unix:/run/globex.sock"
plugin_database_url = "none"
plugin_command = "plugin --for globex"
kv = "on"
"""


def tenants_error(tmp_path: Path, text: str) -> str:
    file = tmp_path / "tenants.toml"
    file.write_text(text)
    return error_of(tmp_path, {"CUTOVER_TENANTS_FILE": str(file), "ACME_DB": "postgres://u:hunter2@db/acme"})


def test_the_tenants_file(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text(TENANTS)
    settings = load({"CUTOVER_TENANTS_FILE": str(file), "ACME_DB": "postgres://u:hunter2@db/acme"}, directory=tmp_path)
    acme, globex = settings.tenants
    assert (acme.name, acme.database_url, acme.default) == ("acme", "postgres://u:hunter2@db/acme", True)
    assert (acme.plugin_database_url, acme.plugin_command) == (None, None)
    assert (globex.plugin_url, globex.plugin_database_url, globex.default) == ("unix:/run/globex.sock", "none", False)
    assert globex.plugin_command == ("plugin", "--for", "globex")
    assert (acme.kv, globex.kv) == (None, True)
    assert "hunter2" not in str(settings.redacted())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("acme", "Acme!"), "name is not a name"),
        (("globex", "acme"), "there twice"),
        (('plugin_url = "unix', 'plugin_urll = "unix'), "plugin_urll, which is no key"),
        (('plugin_url = "unix:/run/globex.sock"\n', ""), "plugin_url is not set"),
        (("env:ACME_DB", "env:NOT_THERE"), "env:NOT_THERE, which is not set"),
        (("env:ACME_DB", "file:/not/there"), "file:/not/there, which cannot be read (No such file or directory); for"),
        (("env:ACME_DB", "postgres://u:hunter2@db/acme"), "holds a password in plain text"),
        (("default = true", 'default = "yes"'), "default is neither"),
        (('kv = "on"', "kv = true"), 'kv is neither "on" nor "off"'),
        (('name = "globex"', 'name = "globex"\ndefault = true'), "more than one tenant"),
        (("postgres://127.0.0.1/globex", "env:ACME_DB"), "same database_url"),
        ((TENANTS, "title = 'nothing'"), "lists no tenant"),
        (("[[tenant]]", "[[tenant"), "is not TOML"),
    ],
)
def test_a_wrong_tenants_file_names_the_tenant_and_the_key(
    tmp_path: Path, change: tuple[str, str], problem: str
) -> None:
    message = tenants_error(tmp_path, TENANTS.replace(*change))
    assert message.startswith("CUTOVER_TENANTS_FILE")
    assert problem in message
    assert "\n" not in message
    assert "hunter2" not in message


def test_settings_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    settings: Any = load(GOOD, directory=tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.refuse = "writes"


def test_no_setting_is_without_effect() -> None:
    """Each is read by the daemon, or by what builds its tenants and tokens."""
    package = Path(__file__).parents[2] / "cutover"
    text = (package / "daemon.py").read_text() + (package / "settings.py").read_text()
    assert [name for name in Settings.model_fields if not re.search(rf"\bsettings\.{name}\b", text)] == []


def test_what_daemons_compare_changes_with_the_hash_and_holds_no_secret(tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text(
        '[[tenant]]\nname = "acme"\ndatabase_url = "env:DB"\nplugin_url = "http://127.0.0.1:9100"'
    )
    listed = {"CUTOVER_TENANTS_FILE": str(tmp_path / "tenants.toml"), "DB": "postgres://u:hunter2@db/acme"}
    for tenant, given in (("default", GOOD), ("acme", listed)):

        def told(given: dict[str, str] = given, tenant: str = tenant, **more: str) -> tuple[str, dict[str, str]]:
            settings = load({**given, **more}, directory=tmp_path)
            return settings.config_hash(tenant), settings.compared(tenant)

        before = told(CUTOVER_ADMIN_TOKEN="hunter2hunter2hunter2")
        assert "hunter2" not in str(before)
        assert told(CUTOVER_ADMIN_TOKEN="hunter3hunter3hunter3", CUTOVER_LOG_LEVEL="debug") == before
        after = told(CUTOVER_ADMIN_TOKEN="hunter2hunter2hunter2", CUTOVER_SWEEP_INTERVAL="90s")
        assert after[0] != before[0]
        assert {name for name in after[1] if after[1][name] != before[1][name]} == {"CUTOVER_SWEEP_INTERVAL"}
        assert after[1]["CUTOVER_SWEEP_INTERVAL"] == "90"
    moved = {**listed, "DB": "postgres://u:hunter2@elsewhere/acme"}
    changed = load(moved, directory=tmp_path).compared("acme")
    unchanged = load(listed, directory=tmp_path).compared("acme")
    assert {name for name in changed if changed[name] != unchanged[name]} == {"tenant.database_url"}


def test_every_file_that_holds_a_secret_is_known(tmp_path: Path) -> None:
    dotenv, config, tenants, people = (tmp_path / name for name in (".env", "c.toml", "t.toml", "p.toml"))
    dotenv.write_text("DATABASE_URL=postgres://u:hunter2@db/x\nCUTOVER_REFUSE=writes\n")
    config.write_text('cutover_admin_token = "file:/run/token"\n')
    tenants.write_text('[[tenant]]\nname = "acme"\ndatabase_url = "file:/run/acme"\nplugin_url = "http://127.0.0.1:1"')
    people.write_text('[tokens]\nada = "file:/run/ada"')
    environ = {
        "CUTOVER_CONFIG": str(config),
        "CUTOVER_TENANTS_FILE": str(tenants),
        "CUTOVER_ADMIN_TOKENS_FILE": str(people),
    }
    found = secret_files(environ, directory=tmp_path)
    assert set(map(str, found)) == {str(dotenv), str(people), "/run/token", "/run/acme", "/run/ada"}
    assert found[dotenv] == "DATABASE_URL"
    assert "hunter2" not in str(found)
    dotenv.write_text("DATABASE_URL=postgres://u@db/x\nMEMORY_PLUGIN_URL=http://127.0.0.1:1\n")
    config.write_text('database_url = "postgres://u:hunter2@db/x"\n')
    assert set(secret_files({"CUTOVER_CONFIG": str(config)}, directory=tmp_path)) == {config}
