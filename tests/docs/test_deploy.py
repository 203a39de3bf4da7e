"""The deployment examples, as far as they can be checked without Docker or a cluster: what they name exists and agrees."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from docs_support import ROOT
from sqlalchemy import make_url

from engram_core.cli.app import app
from engram_core.cli.command import INDEX_VARIABLE, STORE_VARIABLE
from engram_core.storage.addresses import endpoint
from engram_core.storage.postgres import Options, options_of

DEPLOY = ROOT / "docs" / "deploy"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OBJECTS: list[dict[str, Any]] = [
    item for item in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")) if item
]
API = {
    "Namespace": "v1", "Service": "v1", "StatefulSet": "apps/v1", "Deployment": "apps/v1", "CronJob": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}  # fmt: skip
COMPOSE_KEYS = {
    "image", "build", "command", "environment", "volumes", "networks", "ports", "depends_on", "healthcheck", "restart",
    "stop_grace_period",
}  # fmt: skip
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def words(value: Any) -> Iterator[str]:
    """Every string in a value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from words(item)
    elif isinstance(value, list):
        for item in value:
            yield from words(item)
    elif isinstance(value, str):
        yield value


def engram_calls(value: Any) -> list[str]:
    """The subcommands of `engram` that are run somewhere in a value."""
    found = []
    if isinstance(value, list) and value[:1] == ["engram"]:
        found.append(str(value[1]))
    elif isinstance(value, list) and value[:2] == ["CMD", "engram"]:
        found.append(str(value[2]))
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        found += engram_calls(child)
        if isinstance(child, str):
            found += re.findall(r"\bengram ([a-z]+)", child)
    return found


def chroma_options() -> set[str]:
    """What `chroma run` of the installed package takes."""
    program = shutil.which("chroma", path=str(Path(sys.executable).parent)) or "chroma"
    said = subprocess.run([program, "run", "--help"], capture_output=True, text=True, check=True, timeout=60)
    return set(re.findall(r"--[a-z-]+", said.stdout))


# --- compose ---------------------------------------------------------------------------------------------------------


def test_compose_names_only_what_it_declares() -> None:
    assert set(COMPOSE) == {"name", "services", "networks", "volumes"}
    for name, service in SERVICES.items():
        assert set(service) <= COMPOSE_KEYS, name
        assert ("image" in service) != ("build" in service), name
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", {})) <= set(SERVICES) - {name}
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] in {"service_started", "service_healthy"}
            assert how["condition"] == "service_started" or "healthcheck" in SERVICES[needed]
        for volume in service.get("volumes", []):
            source, target = volume.split(":")
            assert source in COMPOSE["volumes"]
            assert target.startswith("/")
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        if "healthcheck" in service:
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_compose_keeps_the_stores_private() -> None:
    for name in ("chroma", "postgres"):
        assert "ports" not in SERVICES[name]
        assert all((COMPOSE["networks"][network] or {}).get("internal") for network in SERVICES[name]["networks"])
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_compose_speaks_to_its_own_servers() -> None:
    for name in ("app", "night"):
        given = SERVICES[name]["environment"]
        assert set(given) == {STORE_VARIABLE, INDEX_VARIABLE}
        url, options = options_of(make_url(re.sub(r"\$\{[^}]*\}", "secret", given[STORE_VARIABLE])))
        assert url.host in SERVICES
        assert options == Options(pool_size=5)
        database = SERVICES[str(url.host)]["environment"]
        assert (url.username, url.database) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
        index = endpoint(given[INDEX_VARIABLE])
        command = SERVICES[index.host]["command"]
        assert command[command.index("--port") + 1] == str(index.port)
        assert command[command.index("--path") + 1] in {v.split(":")[1] for v in SERVICES[index.host]["volumes"]}


def test_no_secret_is_written_down() -> None:
    for path in DEPLOY.iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            plain = re.sub(r"\$\{[^}]*\}", "${}", line)
            found = re.search(r"(?i)password[\"']?\s*[:=]\s*(\S+)", plain)
            assert not found or line.lstrip().startswith("#") or found[1].startswith("${"), line


# --- kubernetes ------------------------------------------------------------------------------------------------------


def pods() -> dict[str, dict[str, Any]]:
    """Pod templates by the name of what makes them."""
    found = {}
    for item in OBJECTS:
        spec = item.get("spec", {})
        template = spec.get("template") or spec.get("jobTemplate", {}).get("spec", {}).get("template")
        if template:
            found[item["metadata"]["name"]] = template
    return found


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a pod's labels satisfy a label selector."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    expressions = selector.get("matchExpressions", [])
    assert all(item["operator"] == "In" for item in expressions)
    return all(labels.get(item["key"]) in item["values"] for item in expressions)


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_every_object_is_of_its_kind(item: dict[str, Any]) -> None:
    assert set(item) <= {"apiVersion", "kind", "metadata", "spec"}
    assert item["apiVersion"] == API[item["kind"]]
    assert NAME.fullmatch(item["metadata"]["name"])
    if item["kind"] != "Namespace":
        assert item["metadata"]["namespace"] in {o["metadata"]["name"] for o in OBJECTS if o["kind"] == "Namespace"}
    if item["kind"] in {"StatefulSet", "Deployment"}:
        assert matches(item["spec"]["selector"], item["spec"]["template"]["metadata"]["labels"])
    if item["kind"] == "StatefulSet":
        services = {o["metadata"]["name"]: o for o in OBJECTS if o["kind"] == "Service"}
        assert services[item["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
        claims = {claim["metadata"]["name"] for claim in item["spec"]["volumeClaimTemplates"]}
        (container,) = item["spec"]["template"]["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == claims
        assert item["spec"]["replicas"] == 1
    if item["kind"] == "CronJob":
        assert len(item["spec"]["schedule"].split()) == 5
        assert item["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] in {"Never", "OnFailure"}


def test_services_lead_to_ports_of_pods() -> None:
    for item in OBJECTS:
        if item["kind"] == "Service":
            chosen = [
                pod
                for pod in pods().values()
                if matches({"matchLabels": item["spec"]["selector"]}, pod["metadata"]["labels"])
            ]
            assert len(chosen) == 1, item["metadata"]["name"]
            ports = {port["name"] for container in chosen[0]["spec"]["containers"] for port in container["ports"]}
            assert {port["targetPort"] for port in item["spec"]["ports"]} <= ports


def test_only_the_application_reaches_the_stores() -> None:
    (policy,) = [item["spec"] for item in OBJECTS if item["kind"] == "NetworkPolicy"]
    labels = {name: pod["metadata"]["labels"] for name, pod in pods().items()}
    assert {name for name in labels if matches(policy["podSelector"], labels[name])} == {"chroma", "postgres"}
    (rule,) = policy["ingress"]
    assert all(set(peer) == {"podSelector"} for peer in rule["from"])
    let_in = {name for name in labels if any(matches(peer["podSelector"], labels[name]) for peer in rule["from"])}
    assert let_in == {"app", "night"}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    served = {
        port["port"]
        for item in OBJECTS
        if item["kind"] == "Service" and item["metadata"]["name"] in {"chroma", "postgres"}
        for port in item["spec"]["ports"]
    }
    assert {port["port"] for port in rule["ports"]} == served


def test_pods_find_the_stores_and_their_secrets() -> None:
    services = {item["metadata"]["name"]: item["spec"] for item in OBJECTS if item["kind"] == "Service"}
    page = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    for name in ("app", "night"):
        (container,) = pods()[name]["spec"]["containers"]
        given = {item["name"]: item for item in container["env"]}
        assert set(given) == {STORE_VARIABLE, INDEX_VARIABLE}
        secret = given[STORE_VARIABLE]["valueFrom"]["secretKeyRef"]
        assert f"secret generic {secret['name']}" in page
        assert f"--from-literal={secret['key']}=" in page
        index = endpoint(given[INDEX_VARIABLE]["value"])
        assert index.port in {port["port"] for port in services[index.host]["ports"]}
        assert container.get("command", ["engram", "sleep"])[:1] == ["engram"]


# --- both ------------------------------------------------------------------------------------------------------------


def test_every_command_exists() -> None:
    called = engram_calls(COMPOSE) + engram_calls(OBJECTS)
    assert {"sleep", "list"} <= set(called) <= set(COMMANDS)
    taken = chroma_options()
    runs = [SERVICES["chroma"]["command"], pods()["chroma"]["spec"]["containers"][0]["args"]]
    for run in runs:
        assert run[0] == "run"
        assert {part for part in run if part.startswith("--")} <= taken


def test_the_versions_are_those_engram_needs() -> None:
    images = {word for word in [*words(COMPOSE), *words(OBJECTS)] if word.startswith("chromadb/chroma:")}
    (image,) = images
    needed = re.search(r'"chromadb>=([\d.]+),<(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert needed is not None
    version = tuple(map(int, image.rpartition(":")[2].split(".")))
    assert tuple(map(int, needed[1].split("."))) <= version < (int(needed[2]),)
