"""`deploy/docker-compose.yml` and what it mounts, looked at without an engine: the parser is strict about every key,
value and name; the rest is what compose takes but would not work, or not be safe."""

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml
from click.testing import CliRunner

from cutover.cli import main
from cutover.embedded.legacy_schema import legacy_schema
from cutover.embedded.prometheus import JOB
from cutover.settings import load
from tests.compose import DEPLOY, FILE, ROOT, binds, environment, make_secrets, parsed, services

SERVICES = ("postgres", "plugin", "cutover", "prometheus", "grafana")
PRIVATE = ("postgres", "plugin")
READERS = {"postgres-password": 0, "database-url": 10001, "admin-token": 10001, "grafana-password": 472}
"""The user that reads each secret: ours by the Dockerfile, Grafana's by its image."""
each_service = pytest.mark.parametrize("name", SERVICES)


def test_compose_takes_the_file() -> None:
    assert tuple(parsed()["services"]) == SERVICES


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("healthcheck:", "healthchek:"),
        ("condition: service_healthy", "condition: service_heathy"),
        ("networks: [watch]", "networks: [wacht]"),
        ("secrets: [grafana-password]", "secrets: [grafana-pasword]"),
        ("interval: 5s", "interval: 5 sec"),
    ],
)
def test_compose_would_refuse_a_slip_of_the_pen(good: str, bad: str) -> None:
    text = FILE.read_text()
    assert good in text
    with pytest.raises(ValueError, match=r"."):
        compose_spec.PyOptions(apply_merge=True).from_yaml(text.replace(good, bad, 1)).validate()


@each_service
def test_every_file_that_is_mounted_is_there_and_read_only(name: str) -> None:
    for source in binds(services()[name]):
        assert source.exists(), source
        assert source.is_relative_to(ROOT)


def test_every_named_volume_is_declared_and_used() -> None:
    named = {
        volume.partition(":")[0]
        for service in services().values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert named == set(parsed()["volumes"])


@each_service
def test_ports_are_published_on_loopback_only_and_never_those_of_a_store(name: str) -> None:
    ports = services()[name].get("ports", [])
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports), ports
    assert bool(ports) == (name not in PRIVATE)


def test_stores_are_on_a_network_that_nothing_outside_reaches() -> None:
    networks = parsed()["networks"]
    assert networks["tenant"]["internal"] is True
    on = {name: set(service["networks"]) for name, service in services().items()}
    assert {name for name, where in on.items() if where == {"tenant"}} == set(PRIVATE)
    assert {name for name, where in on.items() if "tenant" in where} == {*PRIVATE, "cutover"}


@each_service
def test_every_service_has_a_health_check_with_bounds(name: str) -> None:
    check = services()[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    interval, timeout = (compose_spec.parse_duration(check[key]) for key in ("interval", "timeout"))
    assert 0 < timeout < interval <= 30
    assert compose_spec.parse_duration(check["start_period"]) >= interval
    assert check["retries"] >= 3


def test_who_waits_for_whom() -> None:
    waits = {
        (name, other): how["condition"]
        for name, service in services().items()
        for other, how in service.get("depends_on", {}).items()
    }
    assert {other for _, other in waits} <= set(SERVICES)
    # A daemon whose plugin is down, and a Prometheus whose daemon is down, are there to say so.
    assert waits == {
        ("plugin", "postgres"): "service_healthy",
        ("cutover", "postgres"): "service_healthy",
        ("cutover", "plugin"): "service_started",
        ("prometheus", "cutover"): "service_started",
        ("grafana", "prometheus"): "service_healthy",
    }


@each_service
def test_every_service_is_hardened(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert bool(service.get("cap_add")) == (name == "postgres")
    assert service.get("read_only", False) == (name in ("plugin", "cutover", "prometheus"))
    assert not {"privileged", "network_mode", "pid", "user"} & set(service)


@each_service
def test_images_have_versions(name: str) -> None:
    service = services()[name]
    _, _, version = service["image"].partition(":")
    assert "build" in service or re.match(r"v?\d+\.\d+\.\d+", version), service["image"]


def test_no_secret_is_inline(tmp_path: Path) -> None:
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|DATABASE_URL", key):
                assert re.fullmatch(r"(file:)?/run/secrets/[a-z-]+", str(value)), f"{name}: {key}"
    told = parsed()["secrets"]
    assert all(each["file"] == f"./secrets/{name}" for name, each in told.items())
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert {path.name for path in make_secrets(tmp_path / "secrets").iterdir()} == set(told)


def test_the_owner_of_our_secrets_is_the_user_of_our_image() -> None:
    user = re.search(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    for name, uid in READERS.items():
        ours = any(name in services()[each].get("secrets", []) for each in ("plugin", "cutover"))
        assert ours == (uid == int(user[1]))


def test_make_secrets_makes_them_once_and_shuts_the_directory(tmp_path: Path) -> None:
    made = make_secrets(tmp_path / "secrets")
    first = {path.name: path.read_text() for path in made.iterdir()}
    assert first["database-url"] == (f"postgres://cutover:{first['postgres-password'].strip()}@postgres:5432/tenant\n")
    random = [value.strip() for name, value in first.items() if name != "database-url"]
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in random)
    assert len(set(random)) == 3
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {path.name: (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) for path in made.iterdir()} == (
        {name: (0o400, uid) for name, uid in READERS.items()}
        if os.geteuid() == 0
        else {name: (0o444, os.geteuid()) for name in READERS}
    )
    make_secrets(made)
    assert {path.name: path.read_text() for path in made.iterdir()} == first


def test_the_daemon_takes_its_settings(tmp_path: Path) -> None:
    given = environment("cutover", make_secrets(tmp_path / "secrets"), tmp_path)
    settings = load(given, directory=tmp_path)
    assert set(settings.admins) == {"admin"}
    # The plugin face has to listen on all addresses of its container, which is worth its one warning anywhere else.
    assert [warning.partition("=")[0] for warning in settings.warnings] == ["CUTOVER_PLUGIN_LISTEN"]
    done = CliRunner().invoke(main, ["serve", "--check", "-o", "json"], env={**given, "CUTOVER_CONFIG": None})
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tenants"][0]["plugin_url"] == f"http://plugin:{port_of('plugin')}"


def port_of(name: str) -> str:
    """The port that a service's health check asks."""
    found = re.search(r"127\.0\.0\.1:(\d+)/", json.dumps(services()[name]["healthcheck"]["test"]))
    assert found
    return found[1]


def test_the_schema_for_the_trial_is_the_one_that_all_tests_run_on() -> None:
    (script,) = binds(services()["postgres"])
    assert script.read_text() == legacy_schema()


# -- Prometheus and Grafana ------------------------------------------------------------------------------------------


def placed(name: str, root: Path) -> Path:
    """What a service sees of the repository, copied below `root` to where it sees it."""
    for source, target in binds(services()[name]).items():
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    return root


@pytest.mark.prometheus
def test_prometheus_takes_its_configuration_and_finds_every_rule_file(tmp_path: Path) -> None:
    (option,) = (each for each in services()["prometheus"]["command"] if each.startswith("--config.file="))
    config = placed("prometheus", tmp_path) / option.partition("=")[2].lstrip("/")
    done = subprocess.run(
        ["promtool", "check", "config", config], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load(config.read_text())["rule_files"]
    assert {Path(each).name for each in rules} == {path.name for path in (ROOT / "alerts").glob("*.yml")}
    assert done.stdout.count("rules found") == len(rules) > 0


@pytest.mark.prometheus
def test_prometheus_would_not_start_without_a_rule_file(tmp_path: Path) -> None:
    """What the test above relies on: each file is named, so one that is missing or wrong is told."""
    config = placed("prometheus", tmp_path) / "etc/prometheus/prometheus.yml"
    (config.parent / "rules" / "recording.yml").write_text("groups: [{name: a, rules: [{record: a, expr: 'sum('}]}]")
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, check=False, timeout=60)
    assert done.returncode != 0


def test_prometheus_scrapes_the_ops_face_under_the_name_that_alerts_ask_for() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["job_name"] == JOB
    _, _, port = services()["cutover"]["environment"]["CUTOVER_OPS_LISTEN"].rpartition(":")
    assert job["static_configs"] == [{"targets": [f"cutover:{port}"]}]


def provisioning(kind: str) -> dict[str, Any]:
    (file,) = (DEPLOY / "grafana" / "provisioning" / kind).glob("*.yml")
    return dict(yaml.safe_load(file.read_text()))


def test_grafana_asks_the_prometheus_beside_it() -> None:
    (source,) = provisioning("datasources")["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", f"http://prometheus:{port_of('prometheus')}")
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape


def test_grafana_is_provisioned_with_the_dashboards() -> None:
    (provider,) = provisioning("dashboards")["providers"]
    mounted = {target: source for source, target in binds(services()["grafana"]).items()}
    assert mounted[provider["options"]["path"]] == ROOT / "dashboards"
    home = Path(services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (ROOT / "dashboards" / home.name).is_file()
