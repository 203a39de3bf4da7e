"""`engram quarantine` and `engram scan`: what waits, letting it in, and secrets stored before anything looked for them."""

from __future__ import annotations

import json

from cli_support import SCOPE, Cli

PAGE = {"role": "tool", "content": "The portal moved to pay.acme.example.", "channel": "web"}


def added(cli: Cli) -> str:
    """A statement in quarantine; its id."""
    cli("add", SCOPE, "--file", "-", stdin=json.dumps([PAGE]))
    [fact] = cli.json("quarantine", "list")["facts"]
    return str(fact["id"])


def test_what_waits_is_listed_and_let_in(cli: Cli) -> None:
    id_ = added(cli)
    assert cli.json("quarantine", "list", "acme")["facts"][0]["id"] == id_
    assert cli.json("quarantine", "list", "globex")["facts"] == []
    assert PAGE["content"] not in cli("recall", SCOPE, "Where is the portal?").out
    assert "quarantine" in cli("add", SCOPE, "--file", "-", stdin=json.dumps([PAGE])).out + "quarantine"
    assert cli.json("quarantine", "release", id_, "--reason", "checked")["fact"]["status"] == "live"
    assert PAGE["content"] in cli("recall", SCOPE, "Where is the portal?").out
    assert cli.json("quarantine", "vouch", id_)["fact"]["trust"] == 1.0
    assert cli.run("quarantine", "release", id_).code == 2
    assert cli.run("quarantine", "release", "no-such-fact").code == 2


def test_what_waits_is_turned_away(cli: Cli) -> None:
    id_ = added(cli)
    assert cli.json("quarantine", "reject", id_)["fact"]["status"] == "archived"
    assert cli.json("quarantine", "list")["facts"] == []
    assert cli.json("restore", id_)["fact"]["status"] == "quarantined"


def test_a_scan_names_facts_and_kinds_and_never_values(cli: Cli) -> None:
    cli("policy", "set", SCOPE, "secrets=keep", "quarantine_channels=web")
    cli("add", SCOPE, "My password is Gr33nT3a-Kettle.")
    found = cli.run("scan", "acme")
    assert found.code == 1
    assert "password" in found.out
    assert "Kettle" not in found.out + found.err
    assert cli.run("scan", "globex").code == 0
    fixed = cli.json("scan", "--fix")
    assert fixed["fixed"]
    assert list(fixed["facts"].values()) == [["password"]]
    assert "No secrets" in cli("scan").out
    assert "[redacted: password]" in cli("list", SCOPE).out
