"""Access through the facade: every verb asks, nothing hidden shows, and a refusal tells nothing of what is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support_stores import PLACES, place

from engram_core import (
    AccessDenied,
    ChangeRefused,
    Engram,
    FactNotFound,
    InvalidInput,
    Memory,
    Message,
    OnHold,
    RecallNotFound,
)
from engram_core.domain.recall import Scored
from engram_core.testing.fakes import FixedClock, WordHashEmbedder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANN, HOME = "user:ann", "acme/support/ann"


@pytest.fixture(params=PLACES)
def store(request, tmp_path) -> Iterator[Engram]:
    with Engram.open(**place(request, tmp_path), embedder=WordHashEmbedder()) as engram:
        yield engram


# --- every verb asks -------------------------------------------------------------------------------------------------


def calls(memory: Memory, fact_id: str, recall_id: str) -> dict[str, tuple[set[str], Callable[[], Any]]]:
    """Every method of a Memory, by name: the verbs it takes, and a call of it."""
    return {
        "recall": ({"read"}, lambda: memory.recall("tea")),
        "brief": ({"read"}, lambda: memory.brief()),
        "get": ({"read"}, lambda: memory.get(fact_id)),
        "list": ({"read"}, lambda: memory.list()),
        "history": ({"read"}, lambda: memory.history(fact_id)),
        "explain": ({"read"}, lambda: memory.explain(fact_id)),
        "usage": ({"read"}, lambda: memory.usage()),
        "policy": ({"read"}, lambda: memory.policy),
        "policy_source": ({"read"}, lambda: memory.policy_source),
        "policy_history": ({"read"}, lambda: memory.policy_history()),
        "observe": ({"read"}, lambda: memory.observe(recall_id, "tea")),
        "add": ({"write"}, lambda: memory.add("I like rain.")),
        "add supersedes": ({"read", "write", "curate"}, lambda: memory.add("I like snow.", supersedes=fact_id)),
        "update": ({"read", "curate"}, lambda: memory.update(fact_id, importance=0.9)),
        "forget": ({"read", "curate"}, lambda: memory.forget(fact_id)),
        "forget dry": ({"read", "curate"}, lambda: memory.forget(fact_id, dry_run=True)),
        "restore": ({"read", "curate"}, lambda: memory.restore(fact_id)),
        "split": ({"read", "curate"}, lambda: memory.split(fact_id)),
        "release": ({"read", "curate"}, lambda: memory.release(fact_id)),
        "reject": ({"read", "curate"}, lambda: memory.reject(fact_id)),
        "vouch": ({"read", "curate"}, lambda: memory.vouch(fact_id)),
        "consolidate": ({"read", "curate"}, lambda: memory.consolidate(dry_run=True)),
        "reflect": ({"read", "write", "curate"}, lambda: memory.reflect(dry_run=True)),
        "gaps": ({"read", "curate"}, lambda: memory.gaps()),
        "dismiss_gap": ({"read", "curate"}, lambda: memory.dismiss_gap("no such gap")),
        "evolve": ({"read", "curate"}, lambda: memory.evolve(dry_run=True)),
        "propose": ({"read", "curate"}, lambda: memory.propose(token_budget=512)),
        "export": ({"read", "admin"}, lambda: memory.export(tempfile.mkdtemp() + "/all.jsonl")),
        "set_policy": ({"curate"}, lambda: memory.set_policy(max_facts=500)),
        "erase": ({"admin"}, lambda: memory.erase(fact_id, dry_run=True)),
        "hold": ({"admin"}, lambda: memory.hold(reason="a case")),
        "share": ({"read"}, lambda: memory.share(fact_id, to="elsewhere")),
    }


def public(cls: type) -> set[str]:
    """Public methods and properties of a class, without async twins."""
    names = {name for name in dir(cls) if not name.startswith("_")}
    return {name for name in names if f"a{name}" in names or not (name.startswith("a") and name[1:] in names)}


def test_no_method_of_a_memory_is_left_out_of_the_test_below(store: Engram) -> None:
    told = {name.split()[0] for name in calls(store.memory("a"), "", "")}
    assert public(Memory) - told <= {"engram", "scope", "principal", "release_hold"}


@pytest.mark.parametrize("name", calls(None, "", ""))  # type: ignore[arg-type]
def test_a_method_does_what_its_verbs_allow_and_nothing_without_one_of_them(name: str) -> None:
    with Engram.open(":memory:", embedder=WordHashEmbedder()) as store:
        owner = store.memory(HOME)
        fact_id = owner.add("I like tea.").facts[0].id
        store.grant(ANN, "owner", "elsewhere")
        store.grant(ANN, "read", HOME)
        recall_id = store.memory(HOME, principal=ANN).recall("tea").id
        store.revoke(ANN, scope=HOME)
        needed, call = calls(store.memory(HOME, principal=ANN), fact_id, recall_id)[name]
        for verbs in [{"read", "write", "curate", "admin"} - {verb} for verb in needed] + [set()]:
            store.revoke(ANN, scope=HOME)
            for verb in verbs:
                store.grant(ANN, verb, HOME)
            before = list(owner.list(status="all"))
            with pytest.raises((AccessDenied, FactNotFound)) as refused:
                call()
            if isinstance(refused.value, AccessDenied):
                assert (refused.value.principal, refused.value.scope) == (ANN, HOME)
                assert refused.value.verb in needed - verbs
            assert owner.list(status="all") == before
            denied = store.audit(principal=ANN, decision="denied")[0].entry
            assert denied.scope is not None
            assert denied.scope.path == HOME
        store.revoke(ANN, scope=HOME)
        for verb in needed:
            store.grant(ANN, verb, HOME)
        # Asked and allowed; of some, what they were asked of does not fit.
        does_not_fit = name in {"restore", "split", "release", "reject", "dismiss_gap"}
        with pytest.raises((ChangeRefused, FactNotFound)) if does_not_fit else nullcontext():
            call()


def test_a_contributor_recalls_adds_and_observes(store: Engram) -> None:
    store.grant("agent:x", "contributor", HOME)
    memory = store.memory(HOME, principal="agent:x")
    memory.add("My cat is called Momo.")
    recall = memory.recall("What is my cat called?")
    assert memory.observe(recall.id, "Your cat is called Momo.").used == (recall.facts[0].fact.id,)


# --- what a refusal tells --------------------------------------------------------------------------------------------


def test_a_hidden_fact_and_one_that_never_was_look_alike(store: Engram) -> None:
    store.grant(ANN, "owner", HOME, deep=False)
    hidden = [
        store.memory(path).add("The code is 4417 in the vault.").facts[0].id
        for path in ("acme", f"{HOME}/below", "acme/support/bob")
    ]
    owners = store.memory(HOME).recall("code")
    mine = store.memory(HOME, principal=ANN)
    mine.add("I like tea.")
    recall = mine.recall("tea")
    for id_ in hidden:
        for asked in (
            lambda i: mine.get(i), lambda i: mine.history(i), lambda i: mine.explain(i), lambda i: mine.forget(i),
            lambda i: mine.update(i, text="x"), lambda i: mine.restore(i), lambda i: mine.split(i),
            lambda i: mine.explain(recall.id, about=i), lambda i: mine.share(i, to=HOME),
            lambda i: mine.add("A tea.", supersedes=i), lambda i: mine.erase(i), lambda i: mine.hold(i, reason="x"),
        ):  # fmt: skip
            said = []
            for id_or_none in (id_, "01999999-0000-7000-8000-000000000000"):
                with pytest.raises(FactNotFound) as error:
                    asked(id_or_none)
                said.append(str(error.value).replace(id_or_none, "ID"))
            assert said[0] == said[1]
        assert mine.list(after=id_) == mine.list(after="01999999-0000-7000-8000-000000000000") == []
    for asked in (lambda i: mine.observe(i, "x"), lambda i: mine.explain(i, about="x")):
        said = []
        for id_or_none in (owners.id, "01999999-0000-7000-8000-000000000000"):
            with pytest.raises(RecallNotFound) as error:
                asked(id_or_none)
            said.append(str(error.value).replace(id_or_none, "ID"))
        assert said[0] == said[1], "what others asked is theirs"


class Leaky:
    """A design that names facts it cannot have seen."""

    name = "leaky"

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def update(self, episode, view):
        return ()

    def retrieve(self, query, view):
        return [Scored(id_, {"guess": 1.0}) for id_ in self.ids]

    def sleep(self, view):
        return ()


def test_a_row_that_should_not_have_come_is_dropped_with_an_alarm(store: Engram) -> None:
    from engram_core.operations import recall as recalling

    secret = store.memory("other").add("The vault is behind the clock.").facts[0].id
    store.grant(ANN, "reader", HOME)
    dropped = []
    for id_ in (secret, "01999999-0000-7000-8000-000000000000"):
        context = replace(store.context, designs=lambda name, id_=id_: Leaky([id_]))
        asked = recalling.Asked("vault", 5, None, None, frozenset(), None)
        found = recalling.recall(context, store.memory(HOME).scope, ANN, asked, NOW)
        assert (found.facts, found.text) == ((), "")
        dropped.append(repr(found.dropped).replace(id_, "ID"))
    assert dropped[0] == dropped[1]
    (alarm,) = store.audit(decision="alarm")
    assert (alarm.entry.principal, alarm.entry.fact_ids, alarm.entry.by) == (ANN, (secret,), "no grant")


def test_a_drop_box_learns_nothing_of_what_is_there(store: Engram) -> None:
    store.grant("service:mail", "drop-box", "team", max_trust=0.3)
    box = store.memory("team", principal="service:mail")
    first = box.add(["The office closes at six.", "  "])
    again = box.add(["The office closes at six.", "  "])
    assert [(item.action, item.reason) for item in first.outcomes] == [
        (item.action, item.reason) for item in again.outcomes
    ]
    assert first.facts == again.facts == ()
    assert all(item.fact_ids == () for item in again.outcomes)
    (fact,) = store.memory("team").list()
    assert fact.trust == 0.3
    with pytest.raises(AccessDenied):
        box.list()


# --- non-interference ------------------------------------------------------------------------------------------------


WORDS = "tea coffee rain snow train garden office vault Momo Lisbon Porto nurse peanuts money budget Monday".split()


def statement(rng: Random) -> str:
    return f"{rng.choice(('I like', 'We saw', 'Ben needs', 'My aunt sold'))} {rng.choice(WORDS)} and {rng.choice(WORDS)} {rng.randint(1, 99)}."


def seen_by_ann(seed: int, *, with_hidden: bool, exact_limit: int) -> str:
    """Everything Ann gets to see in a store, which holds hidden facts or not; as text."""
    rng, hidden = Random(seed), Random(seed + 1)
    clock = FixedClock(NOW)
    with Engram.open(
        ":memory:", embedder=WordHashEmbedder(), clock=clock, rng=Random(5), exact_limit=exact_limit
    ) as store:
        store.grant(ANN, "curator", HOME, deep=False)
        store.grant(ANN, "reader", "acme", deep=False)
        mine, shared = store.memory(HOME, principal=ANN), store.memory("acme")
        numbers = count()

        def said(memory: Memory, text: str) -> None:
            memory.add(Message("user", text, id=f"m{next(numbers)}", session="s"), now=NOW)

        for step in range(14):
            said(mine if step % 3 else shared, statement(rng))
            if with_hidden:
                for path in ("acme/support", f"{HOME}/below", f"{HOME}-2", "acme-corp", "acme/support/bob"):
                    store.memory(path).add([statement(hidden), statement(rng_copy(rng))], session="s", now=NOW)
        names: dict[str, str] = {}

        def plain(value: Any) -> Any:
            # The fence's marker is drawn anew for each recall, hidden ones included.
            text = re.sub(r"memory-[0-9]{8}", "memory-M", json.dumps(value, default=str, sort_keys=True))
            for id_ in ids:
                text = text.replace(id_, names.setdefault(id_, f"id{len(names)}"))
            return text

        facts = mine.list(status="all") + list(shared.list(status="all"))
        ids = [fact.id for fact in facts]
        told = []
        for query in ("tea and rain", "Who needs money?", "What did my aunt sell?", "Lisbon 7"):
            recall = mine.recall(query, k=5, max_tokens=120, now=NOW)
            usage = mine.observe(recall.id, f"{recall.facts[0].fact.text} Yes." if recall.facts else "No.", now=NOW)
            told.append(
                [
                    recall.text, recall.tokens, recall.degraded,
                    [(item.fact.id, item.score, item.terms, item.text, item.tokens) for item in recall.facts],
                    [(item.fact_id, item.text, item.score, item.terms, str(item.reason)) for item in recall.dropped],
                    usage.used, usage.unused, usage.terms,
                ]
            )  # fmt: skip
            ids.append(recall.id)
            told.append(str(mine.explain(recall.id)))
        brief = mine.brief(max_tokens=200, now=NOW)
        told += [brief.text, brief.tokens, [fact.id for fact in brief.facts]]
        told += [
            mine.usage(now=NOW).to_dict(),
            store.usage(principal=ANN, now=NOW).to_dict(),
            store.scopes(principal=ANN),
        ]
        told += [
            without_episode(mine.explain(facts[0].id).to_dict()),
            [str(item.reason) for item in mine.history(facts[0].id)],
        ]
        added = mine.add([Message("user", "I like tea and rain 5.", id="last"), facts[0].text], now=NOW)
        told += [[(item.action, str(item.reason)) for item in added.outcomes]]
        told += [mine.consolidate(dry_run=True, now=NOW).to_dict(), [fact.text for fact in mine.list()]]
        return plain(told)


def without_episode(told: dict[str, Any]) -> dict[str, Any]:
    """An explanation without an id that is drawn at random."""
    told["fact"]["origin"].pop("episode_id")
    return told


def rng_copy(rng: Random) -> Random:
    """The same chance again, so that hidden facts say what readable ones say, too."""
    copy = Random()
    copy.setstate(rng.getstate())
    return copy


@pytest.mark.parametrize(
    ("pairs", "exact_limit"),
    [
        (4, 2_000),
        (2, 0),
        pytest.param(400, 2_000, marks=pytest.mark.full),
        pytest.param(100, 0, marks=pytest.mark.full),
    ],
)
def test_stores_that_differ_in_what_is_hidden_answer_alike_to_the_byte(pairs: int, exact_limit: int) -> None:
    for seed in range(pairs):
        with_hidden = seen_by_ann(seed, with_hidden=True, exact_limit=exact_limit)
        assert with_hidden == seen_by_ann(seed, with_hidden=False, exact_limit=exact_limit)
        assert "id0" in with_hidden


# --- grants over time ------------------------------------------------------------------------------------------------


class Granting(RuleBasedStateMachine):
    """Grants are made, revoked and run out; groups and barriers come and go. A model says what Ann may read."""

    scopes = ("acme", "acme/x", "acme/x/y", "acme-corp", "acme.corp", "a/cme")
    scope = st.sampled_from(scopes)
    to = st.sampled_from([ANN, "group:g"])

    @initialize()
    def opened(self) -> None:
        self.store = Engram.open(":memory:", embedder=WordHashEmbedder())
        self.now = NOW
        self.grants: list[tuple[str, str, bool, datetime | None]] = []
        self.is_member = False
        self.private: set[str] = set()
        self.ids = {
            path: self.store.memory(path).add(f"The word is {path}.", now=NOW).facts[0].id for path in self.scopes
        }

    @rule(to=to, scope=scope, deep=st.booleans(), hours=st.sampled_from([None, 1, 5]))
    def granted(self, to: str, scope: str, deep: bool, hours: int | None) -> None:
        ends = self.now + timedelta(hours=hours) if hours else None
        self.store.grant(to, "read", scope, deep=deep, expires=ends, now=self.now)
        self.grants.append((to, scope, deep, ends))

    @rule(to=to, scope=scope)
    def revoked(self, to: str, scope: str) -> None:
        gone = self.store.revoke(to, "read", scope, now=self.now)
        assert len(gone) == sum(one[:2] == (to, scope) for one in self.grants)
        self.grants = [one for one in self.grants if one[:2] != (to, scope)]

    @rule(is_member=st.booleans())
    def joined(self, is_member: bool) -> None:
        change = self.store.group_add if is_member else self.store.group_remove
        assert change("group:g", ANN, now=self.now) == (self.is_member != is_member)
        self.is_member = is_member

    @rule(scope=scope, private=st.booleans())
    def closed(self, scope: str, private: bool) -> None:
        self.store.set_private(scope, private, now=self.now)
        (self.private.add if private else self.private.discard)(scope)

    @precondition(lambda self: self.grants)
    @rule(hours=st.sampled_from([1, 2]))
    def time_passed(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    def may(self, scope: str) -> bool:
        levels = scope.split("/")
        above = ["/".join(levels[:n]) for n in range(1, len(levels) + 1)]
        for to, level, deep, ends in self.grants:
            if (
                (to == ANN or self.is_member)
                and (level == scope or (deep and level in above))
                and (ends is None or self.now < ends)
                and not any(wall in self.private for wall in above[above.index(level) + 1 :])
            ):
                return True
        return False

    @invariant()
    def recalls_are_what_the_model_allows(self) -> None:
        if not hasattr(self, "store"):
            return
        for scope in ("acme/x/y", "acme-corp"):
            levels = scope.split("/")
            above = ["/".join(levels[:n]) for n in range(1, len(levels) + 1)]
            expected = {self.ids[path] for path in above if self.may(path)}
            memory = self.store.memory(scope, principal=ANN)
            if expected:
                assert {item.fact.id for item in memory.recall("word", now=self.now)} == expected
            else:
                with pytest.raises(AccessDenied):
                    memory.recall("word", now=self.now)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.verify().ok
            self.store.close()


def test_grants_come_and_go_and_run_out() -> None:
    quick = settings(max_examples=12, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Granting, settings=quick)


def test_a_grant_counts_in_another_process_at_its_next_call(tmp_path) -> None:
    child = (
        "import sys; from engram_core import Engram, AccessDenied\n"
        "from engram_core.testing.fakes import WordHashEmbedder\n"
        "with Engram.open(sys.argv[1], embedder=WordHashEmbedder()) as store:\n"
        "    memory = store.memory('acme', principal='user:ann')\n"
        "    for _ in sys.stdin:\n"
        "        try: print(len(memory.recall('tea').facts), flush=True)\n"
        "        except AccessDenied: print('denied', flush=True)\n"
    )
    with Engram.open(tmp_path / "s", embedder=WordHashEmbedder()) as store:
        store.memory("acme").add("I like tea.")
        process = subprocess.Popen(
            [sys.executable, "-c", child, str(tmp_path / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

        def ask() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("?\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        with process:
            assert ask() == "denied"
            store.grant(ANN, "read", "acme")
            assert ask() == "1"
            store.revoke(ANN)
            assert ask() == "denied"
            store.group_add("group:g", ANN)
            store.grant("group:g", "reader", "acme")
            assert ask() == "1"
            store.set_private("acme")
            assert ask() == "1", "a grant made at the barrier counts"
            store.group_remove("group:g", ANN)
            assert ask() == "denied"
            process.stdin.close()  # type: ignore[union-attr]
        assert process.returncode == 0
        assert store.verify().ok


# --- delegation, barriers, ceilings, sharing -------------------------------------------------------------------------


def test_a_delegate_gives_what_it_has_and_no_more(store: Engram) -> None:
    store.grant(ANN, "read", "acme", expires=NOW + timedelta(days=9), now=NOW)
    store.grant(ANN, "admin", "acme", now=NOW)
    store.grant("user:bob", "read", "acme/x", expires=NOW + timedelta(days=1), by=ANN, now=NOW)
    for attempt in (
        lambda: store.grant("user:bob", "write", "acme/x", by=ANN, now=NOW),
        lambda: store.grant(ANN, "curate", "acme", by=ANN, now=NOW),
        lambda: store.grant("user:bob", "read", "acme/x", by=ANN, now=NOW),
        lambda: store.grant("user:bob", "read", "acme-corp", by=ANN, now=NOW),
        lambda: store.grant("user:bob", "read", "acme", by="user:bob", now=NOW),
        lambda: store.revoke("user:bob", by="user:bob", now=NOW),
        lambda: store.set_private("acme/x", by="user:bob", now=NOW),
        lambda: store.group_add("group:g", ANN, by=ANN, now=NOW),
    ):
        with pytest.raises(AccessDenied):
            attempt()
    assert len(store.grants()) == 3
    assert store.revoke("user:bob", by=ANN, now=NOW)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda e: e.grant("ann", "read", "a"), lambda e: e.grant(ANN, "reads", "a"),
        lambda e: e.grant(ANN, "read", "a", max_trust=2), lambda e: e.grant(ANN, "read", "a", expires=NOW, now=NOW),
        lambda e: e.group_add("group:a", "group:b"), lambda e: e.group_add("user:a", ANN),
        lambda e: e.break_glass("a", reason=" "), lambda e: e.break_glass("a", reason="x", minutes=0),
        lambda e: e.who_can("see", "a"), lambda e: e.why("ann", "read", "a"), lambda e: e.audit(limit=0),
        lambda e: e.memory("a", principal="ann"), lambda e: e.memory("a", principal="group:a"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(store: Engram, attempt: Callable[[Engram], Any]) -> None:
    with pytest.raises(InvalidInput):
        attempt(store)
    assert store.grants() == []


def test_a_private_scope_stops_the_owner_reading_and_nothing_else(store: Engram) -> None:
    hr = store.memory("acme/hr")
    hr.add("Ben earns 61,000 euros.", now=NOW)
    store.memory("acme/hr/deep").add("Ben starts in May.", now=NOW)
    store.set_private("acme/hr")
    hr.add("Eve starts in June.", now=NOW)
    assert store.sleep("acme", now=NOW).totals["failed"] == 0
    for attempt in (hr.list, hr.usage, lambda: hr.policy, store.memory("acme/hr/deep").list):
        with pytest.raises(AccessDenied, match="may not read in acme/hr"):
            attempt()
    assert "Ben" not in json.dumps(store.usage().to_dict())
    # Above it the owner reads on, and a question asked from inside looks there.
    assert hr.recall("Ben earns", now=NOW).facts == hr.brief(now=NOW).facts == ()
    assert store.memory("acme").list() == []
    grant = store.break_glass("acme/hr", reason="ticket 7", minutes=30, now=NOW)
    assert (grant.reason, grant.expires) == ("ticket 7", NOW + timedelta(minutes=30))
    assert len(hr.recall("Ben earns", now=NOW).facts) == 2
    assert hr.recall("Ben earns", now=NOW + timedelta(minutes=30)).facts == ()
    (alarm,) = store.audit(decision="alarm")
    assert (alarm.entry.operation, alarm.entry.principal) == ("break_glass", store.owner)


def test_a_ceiling_holds_for_what_is_written_by_it(store: Engram) -> None:
    store.grant("agent:low", "curator", "team", max_trust=0.4)
    low, owner = store.memory("team", principal="agent:low"), store.memory("team")
    assert low.add("I like tea.").facts[0].trust == 0.4
    high = owner.add("The office closes at six.").facts[0]
    assert low.update(high.id, importance=0.9).trust == 1.0
    assert low.update(high.id, text="The office closes at nine.").trust == 0.4
    other = owner.add("Our cat is called Momo.").facts[0]
    assert low.share(other.id, to="team/below").trust == 0.4


def test_sharing_copies_links_and_relabels_nothing(store: Engram) -> None:
    store.grant(ANN, "reader", HOME)
    mine, team = store.memory(HOME, principal=ANN), store.memory("acme/support")
    fact = store.memory(HOME).add(Message("assistant", "Ann is allergic to nuts.", id="m1")).facts[0]
    with pytest.raises(AccessDenied, match="may not curate in acme/support"):
        mine.share(fact.id, to="acme/support")
    store.grant(ANN, "curate", "acme/support", deep=False)
    copy = mine.share(fact.id, to="acme/support", reason="who cooks should know")
    assert (copy.scope.path, copy.sources, copy.text, copy.trust) == ("acme/support", (fact.id,), fact.text, fact.trust)
    assert (copy.origin.channel, copy.origin.principal, copy.origin.message_ids) == ("derived", ANN, ("m1",))
    assert (copy.said_at, copy.kind, copy.speaker) == (fact.said_at, fact.kind, fact.speaker)
    assert team.history(copy.id)[0].reason.line == "who cooks should know"
    assert team.share(copy.id, to="acme").trust <= copy.trust
    assert store.memory(HOME).share(fact.id, to="acme/support") == team.get(copy.id), "shared once"
    assert not mine.explain(fact.id).derived, "the copy is for those who may read there"
    assert store.memory(HOME).explain(fact.id).derived
    store.memory(HOME).forget(fact.id)
    assert [item.id for item in team.list()] == [copy.id]
    with pytest.raises(ChangeRefused, match="archived"):
        store.memory(HOME).share(fact.id, to="acme")
    noted = [row.entry for row in store.audit("acme/support", principal=ANN) if row.entry.operation == "share"]
    assert {(entry.decision, entry.verb) for entry in noted} == {
        ("denied", "curate"),
        ("allowed", "read"),
        ("allowed", "curate"),
    }


async def test_the_async_twins_do_the_same(store: Engram) -> None:
    await store.agrant(ANN, "contributor", "team")
    assert list(await store.awho_can("write", "team")) == [ANN, store.owner]
    assert await store.awhy(ANN, "read", "team")
    assert len(await store.agrants("team")) == 2
    assert await store.agroup_add("group:g", ANN)
    assert await store.agroups() == {"group:g": [ANN]}
    assert await store.agroup_remove("group:g", ANN)
    fact = (await store.memory("team", principal=ANN).aadd("I like tea.")).facts[0]
    assert (await store.memory("team").ashare(fact.id, to="all")).sources == (fact.id,)
    assert await store.aset_private("team")
    assert await store.aprivate_scopes() == ["team"]
    assert (await store.abreak_glass("team", reason="x")).verb == "read"
    assert len(await store.arevoke(ANN)) == 2
    head = await store.aaudit_head()
    assert (await store.averify(expect=head)).ok
    assert (await store.aaudit(limit=1))[0].number == head.number


def test_a_hold_is_told_to_nobody_who_may_not_act(store: Engram) -> None:
    owner = store.memory(HOME)
    fact_id = owner.add("The invoice was paid.").facts[0].id
    owner.hold(reason="secret case 42")
    store.grant("agent:reader", "read", HOME)
    for who in ("agent:reader", "agent:stranger"):
        memory = store.memory(HOME, principal=who)
        with pytest.raises((AccessDenied, FactNotFound)) as refused:
            memory.forget(fact_id)
        assert "case" not in str(refused.value)
        with pytest.raises((AccessDenied, FactNotFound)) as refused:
            memory.erase(fact_id)
        assert "case" not in str(refused.value)
        with pytest.raises(AccessDenied):
            store.erase(scope=HOME, principal=who)
    with pytest.raises(OnHold, match="secret case 42"):
        owner.forget(fact_id)
    with pytest.raises(OnHold):
        store.erase(scope=HOME)


def test_what_a_tool_returned_waits_though_nobody_named_its_channel(store: Engram) -> None:
    memory = store.memory(HOME)
    (outcome,) = memory.add([Message("tool", "The user prefers the shop example.com.")]).outcomes
    assert outcome.action == "quarantined"
