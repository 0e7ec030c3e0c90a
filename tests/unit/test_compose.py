"""The compose file, the image and the broker's settings, as they are written: nothing is started."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer.main

from cli.main import app
from tests.composition import BROKER_SETTINGS, COMPOSE, OURS, ROOT, SERVICES, instructions

ONE_SHOT = {"deployer"}
KNOWN_VARIABLES = {
    "ours": {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"},
    "localstack": {
        "LOCALSTACK_AUTH_TOKEN",
        "DISABLE_EVENTS",
        "LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT",
        "DYNAMODB_REMOVE_EXPIRED_ITEMS",
    },
    "mosquitto": {"MQTT_USERNAME", "MQTT_PASSWORD"},
}
"""LocalStack's: "Configuration" in its documentation, and localstack/config.py of 4.14.0."""
SECRET = r"""(?i)(password|secret|token|access_key\w*)["']?[ ]*[:=][ ]*["']?\w{3,}"""
FROM_THE_SHELL = {"LOCALSTACK_AUTH_TOKEN", "MQTT_USERNAME", "MQTT_PASSWORD"}


def broker_listeners() -> dict[str, dict[str, str]]:
    """The broker's settings per listener, by port."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in BROKER_SETTINGS.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "listener":
            current = found.setdefault(value, {})
        elif name and not name.startswith("#"):
            current[name] = value
    return found


def test_there_is_everything_a_pipeline_needs_and_no_name_that_old_parsers_refuse() -> None:
    assert set(SERVICES) == {"localstack", "mosquitto", "deployer", "clock", "gateway", "api", "simulator"}
    assert set(OURS) == {"deployer", "clock", "gateway", "api", "simulator"}
    assert "name" not in COMPOSE
    assert SERVICES["localstack"]["image"] == "localstack/localstack:4.14.0"
    assert {name for name, one in SERVICES.items() if "profiles" in one} == {"simulator"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_published_on_loopback_only(name: str) -> None:
    service = SERVICES[name]
    assert service.get("network_mode") is None
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z./-]+:\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_one_image_with_no_more_rights_than_they_need(name: str) -> None:
    service = OURS[name]
    assert service["image"] == OURS["deployer"]["image"]
    assert service["build"] == "."
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))
    assert "privileged" not in service
    assert "user" not in service, "the image says who runs it"


def test_volumes_are_named_and_used() -> None:
    used = [volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", [])]
    assert set(COMPOSE["volumes"]) == {name for name in used if not name.startswith(("/", "."))}
    for path in used:
        if path.startswith("."):
            assert (ROOT / path).is_file()


@pytest.mark.parametrize("name", OURS)
def test_a_command_exists_and_its_options_parse(name: str) -> None:
    words = [str(word) for word in OURS[name]["command"]]
    commands: Any = typer.main.get_command(app)
    assert words[0] in commands.commands, f"{name}: thermocline {words[0]} does not exist"
    command = commands.commands[words[0]]
    context = command.make_context(words[0], words[1:], resilient_parsing=False)
    assert context.args == []
    assert all(command.make_context(words[0], [word, "--help"], resilient_parsing=True) for word in words[1:])


@pytest.mark.parametrize("name", SERVICES)
def test_every_variable_is_known_and_no_secret_is_written_down(name: str) -> None:
    given: dict[str, Any] = SERVICES[name].get("environment", {})
    known = KNOWN_VARIABLES.get(name, KNOWN_VARIABLES["ours"])
    assert set(given) <= known
    for variable in FROM_THE_SHELL & set(given):
        assert given[variable] is None, f"{variable} comes from the shell"


def test_no_file_of_the_composition_holds_a_secret() -> None:
    files = [ROOT / "docker-compose.yml", ROOT / "Dockerfile", ROOT / ".dockerignore"]
    files += [path for path in (ROOT / "infra/compose").rglob("*") if path.is_file()]
    for path in files:
        text = path.read_text()
        assert not re.search(SECRET, text), path
    assert not [path for path in (ROOT / "infra/compose").rglob("*") if "passw" in path.name]
    assert not (ROOT / ".env").exists()


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT - {"simulator"}))
def test_what_stays_up_says_whether_it_is_well(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(check)
    if check["test"][1] == "thermocline":
        commands: Any = typer.main.get_command(app)
        assert check["test"][2] in commands.commands


def test_services_start_after_what_they_need() -> None:
    needs = {
        name: {other: how["condition"] for other, how in one.get("depends_on", {}).items()}
        for name, one in SERVICES.items()
    }
    assert needs["deployer"] == {"localstack": "service_healthy"}
    assert needs["clock"]["deployer"] == "service_completed_successfully"
    assert needs["api"] == {"deployer": "service_completed_successfully"}
    assert needs["gateway"] == {
        "mosquitto": "service_healthy",
        "deployer": "service_completed_successfully",
    }
    assert {"mosquitto", "gateway"} <= set(needs["simulator"])
    for name, wanted in needs.items():
        for other, condition in wanted.items():
            assert condition != "service_healthy" or "healthcheck" in SERVICES[other], f"{name}: {other}"
            assert "profiles" not in SERVICES[other], f"{name} cannot start: {other} is behind a profile"
    assert SERVICES["deployer"]["restart"] == "no"


def test_services_are_called_by_their_names() -> None:
    inside = {"localstack": "4566", "mosquitto": "1883"}
    for name, service in OURS.items():
        words = " ".join([*map(str, service["command"]), *map(str, service["environment"].values())])
        for host, port in re.findall(r"\w+://([^:/\s]+):(\d+)", words):
            assert inside.get(host) == port, name


def test_the_broker_lets_strangers_in_only_where_the_host_cannot_reach() -> None:
    listeners = broker_listeners()
    published = {port.split(":")[2] for port in SERVICES["mosquitto"]["ports"]}
    assert published <= set(listeners)
    for port, settings in listeners.items():
        if port in published:
            assert settings["allow_anonymous"] == "false"
            assert settings["password_file"].startswith("/mosquitto/data/")
        else:
            assert settings["allow_anonymous"] == "true"
    assert "\nper_listener_settings true\n" in BROKER_SETTINGS.read_text()


# --- the image ----------------------------------------------------------------------------


def test_the_image_is_slim_built_in_two_stages_and_runs_without_rights() -> None:
    found = instructions()
    bases = [rest.split()[0] for name, rest in found if name == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)
    last = found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]
    users = [rest for name, rest in last if name == "USER"]
    assert len(users) == 1
    assert int(users[0].split(":")[0]) >= 1000
    assert not [rest for name, rest in last if name == "RUN"], "what needs root is done in the first stage"
    assert [rest for name, rest in last if name == "ENTRYPOINT"] == ['["thermocline"]']


def test_the_image_installs_nothing_that_is_not_locked() -> None:
    installs = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    assert len(installs) == 3
    for line in installs:
        ours = line.endswith(" .") and "--no-deps" in line and "--no-index" in line
        assert ours or re.search(r"--require-hashes .*-r requirements\S*\.lock$", line), line


def test_the_build_sees_only_what_it_copies() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_s_python_is_one_that_functions_are_built_for() -> None:
    from infra.package import PYTHON_VERSIONS

    base = next(rest for name, rest in instructions() if name == "FROM")
    assert base.split(":")[1].split("-")[0] in PYTHON_VERSIONS
