"""Makes statements that go out of date, and statements that only look as if they did. Seeded; it measures nothing.

Every family has templates that the rules were written with (`dev`) and templates that were set aside (`held`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from engram_core import Message

Split = Literal["dev", "held"]
START = datetime(2024, 1, 8, 9, tzinfo=UTC)

_FIRST = "Ana Bruno Carla Dario Elena Farid Greta Hugo Ines Jonas Kira Luca Mara Nils Olga Pablo Rosa Sven".split()
_LAST = "Abreu Brandt Castell Dahl Esposito Fabre Groot Haas Ivanov Jansen Kovac Lindt Moser Novak Ortega".split()
_CITIES = "Lisbon Porto Madrid Berlin Oslo Turin Athens Dublin Vienna Prague Warsaw Geneva Bergen Ghent Lyon".split()
_LANDS = "Norway Croatia Ghana Peru Japan Portugal Canada Kenya Iceland Chile Latvia Malta".split()
_FIRMS = ("Nordwind", "Blue Harbor", "Kestrel Labs", "Oakline", "Tessera", "Quill & Co", "Marlow Group", "Ferrovia")
_WORKS = ("The Glass Orchard", "Winter Signals", "A Map of Salt", "Harbour Lights", "The Ninth Door", "Paper Rivers")
_JOBS = ("nurse", "software engineer", "teacher", "lawyer", "data analyst", "pharmacist", "civil engineer", "pilot")
_SPORTS = ("basketball", "cricket", "association football", "rugby", "ice hockey", "handball")
_FAITHS = ("Buddhism", "Islam", "Catholicism", "Hinduism", "Judaism")
_TONGUES = ("French", "Dutch", "Swahili", "Latvian", "Spanish", "Polish")
_FOODS = ("sushi", "olives", "blue cheese", "spicy food", "black coffee", "liquorice", "oat milk")
_COLOURS = ("blue", "green", "dark red", "yellow", "teal")
_THINGS = ("function names", "variable names", "class names", "constant names", "method names", "file names")


@dataclass(frozen=True)
class Case:
    """A statement in a stream.

    Attributes:
        key: What it is about; a later case with the same key and another value puts it out of date.
        value: "" for a statement that never goes out of date.
    """

    text: str
    key: str = ""
    value: str = ""
    speaker: str = "User"


@dataclass
class Stream:
    """Cases in the order they are said, and which of them are out of date at the end."""

    cases: list[Case] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        """As the facade takes them; ids are the places, a message an hour."""
        return [
            Message("user", case.text, speaker=case.speaker, at=START + timedelta(hours=place), id=str(place))
            for place, case in enumerate(self.cases)
        ]

    @property
    def outdated(self) -> set[str]:
        """Message ids of statements whose value has changed since."""
        last = {(case.speaker, case.key): case.value for case in self.cases if case.key}
        return {
            str(place)
            for place, case in enumerate(self.cases)
            if case.key and last[case.speaker, case.key] != case.value
        }


def _name(rng: random.Random) -> str:
    return f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"


def _two(rng: random.Random, pool: tuple[str, ...] | list[str]) -> tuple[str, str]:
    first, second = rng.sample(list(pool), 2)
    return first, second


# Relations as encyclopaedias put them: (template, pool of values, pool of subjects).
_PEOPLE, _PLACES, _BOOKS, _COMPANIES = "people", "places", "books", "firms"
_RELATIONS: dict[Split, list[tuple[str, list[str], str]]] = {
    "dev": [
        ("{s} is married to {v}", [], _PEOPLE),
        ("{s} is a citizen of {v}", _LANDS, _PEOPLE),
        ("The capital of {s} is {v}", _CITIES, _PLACES),
        ("{s} works in the city of {v}", _CITIES, _PEOPLE),
        ("{s} plays the position of {v}", ["goalkeeper", "midfielder", "striker", "point guard"], _PEOPLE),
        ("The chief executive officer of {s} is {v}", [], _COMPANIES),
        ("The author of {s} is {v}", [], _BOOKS),
        ("{s} was born in the city of {v}", _CITIES, _PEOPLE),
        ("{s} was founded by {v}", [], _COMPANIES),
        ("{s} is affiliated with the religion of {v}", list(_FAITHS), _PEOPLE),
    ],
    "held": [
        ("{s} is employed by {v}", list(_FIRMS), _PEOPLE),
        ("{s} was performed by {v}", [], _BOOKS),
        ("The director of {s} is {v}", [], _BOOKS),
        ("{s} died in the city of {v}", _CITIES, _PEOPLE),
        ("The original broadcaster of {s} is {v}", list(_FIRMS), _BOOKS),
        ("The chairperson of {s} is {v}", [], _COMPANIES),
        ("{s} was written in the language of {v}", list(_TONGUES), _BOOKS),
        ("The head coach of {s} is {v}", [], _COMPANIES),
        ("{s} speaks the language of {v}", list(_TONGUES), _PEOPLE),
        ("{s} is associated with the sport of {v}", list(_SPORTS), _PEOPLE),
        ("The official language of {s} is {v}", list(_TONGUES), _PLACES),
        ("The headquarters of {s} is located in the city of {v}", _CITIES, _COMPANIES),
        ("{s} was created in the country of {v}", _LANDS, _BOOKS),
        ("The name of the current head of the {s} government is {v}", [], _PLACES),
        ("The company that produced {s} is {v}", list(_FIRMS), _BOOKS),
    ],
}
# What people tell about themselves: (old wording, new wording, pool of values).
_PERSONAL: dict[Split, list[tuple[str, str, list[str]]]] = {
    "dev": [
        ("I live in {v}.", "I just moved to {v}.", _CITIES),
        ("I work at {v}.", "I just started working at {v}.", list(_FIRMS)),
        ("I work as a {v}.", "I now work as a {v}.", list(_JOBS)),
        ("My favorite color is {v}.", "My favourite colour is {v}.", list(_COLOURS)),
        ("My budget is ${v}.", "I've increased my budget to ${v}.", ["500", "650", "800", "1,200"]),
        ("My deadline is {v}.", "My deadline moved to {v}.", ["May 28", "June 3", "June 17", "July 1"]),
        ("My phone number is {v}.", "My phone number is {v}.", ["555-0182", "555-0143", "555-0177"]),
        ("I prefer {v} for breakfast.", "I prefer {v} for breakfast.", ["oatmeal", "toast", "eggs", "fruit"]),
    ],
    "held": [
        ("I'm living in {v} at the moment.", "We've relocated to {v}!", _CITIES),
        ("I'm based in {v}.", "Good news, I recently moved to {v}.", _CITIES),
        ("I'm currently working for {v}.", "I'm now employed at {v}.", list(_FIRMS)),
        ("My email is {v}.", "My new email address is {v}.", ["a.b@mail.test", "c.d@mail.test", "x@post.test"]),
        ("My rent is {v} euros.", "My rent went up to {v} euros.", ["700", "820", "940"]),
        ("My wife's birthday is {v}.", "My wife's birthday is {v}.", ["May 3", "June 12", "March 30"]),
        ("The project deadline is {v}.", "The project deadline has been moved to {v}.", ["May 28", "June 3", "July 9"]),
        ("Our team meeting is scheduled for {v}.", "Our team meeting was moved to {v}.", ["Monday", "Friday at 3pm"]),
        ("I usually use {v} for note taking.", "I now use {v} for note taking.", ["Obsidian", "OneNote", "Bear"]),
        ("My target weight is {v} kg.", "I've changed my target weight to {v} kg.", ["70", "74", "68"]),
    ],
}
_ORDERS: dict[Split, list[str]] = {
    "dev": [
        "Always start {t} with '{v}'.",
        "From now on, always end {t} with '{v}'.",
        "please always start {t} with '{v}'",
    ],
    "held": [
        "When you write code, always begin {t} with '{v}'.",
        "Make sure to always finish {t} with '{v}'.",
        "I want you to always prefix {t} with '{v}'.",
    ],
}
_NEVER_OLD: dict[Split, list[Callable[[random.Random], str]]] = {
    "dev": [
        lambda r: f"I used to live in {r.choice(_CITIES)}.",
        lambda r: f"Do you know whether {_name(r)} lives in {r.choice(_CITIES)}?",
        lambda r: f"I might move to {r.choice(_CITIES)} one day.",
        lambda r: f"I visited {r.choice(_CITIES)} with my sister and we loved it.",
        lambda r: f"I read {r.choice(_WORKS)} last week.",
        lambda r: f"Always include a test for {r.choice(_THINGS)}.",
        lambda r: f"I love {r.choice(_FOODS)}.",
        lambda r: f"The weather in {r.choice(_CITIES)} is {r.randrange(3, 30)} degrees today.",
    ],
    "held": [
        lambda r: f"My brother lives near {r.choice(_CITIES)} and works nights.",
        lambda r: f"I bought {r.randrange(2, 9)} tickets for the match in {r.choice(_CITIES)}.",
        lambda r: f"I was thinking about working for {r.choice(_FIRMS)} some day.",
        lambda r: f"{_name(r)} said that {r.choice(_CITIES)} is lovely in spring.",
        lambda r: f"I spent ${r.randrange(20, 400)} on a present for {_name(r)}.",
        lambda r: f"My favorite part of {r.choice(_WORKS)} was the ending.",
        lambda r: f"I went to {r.choice(_CITIES)} from {r.choice(_CITIES)} by train in {r.randrange(2, 9)} hours.",
        lambda r: f"Remember to attach the file '{r.choice(_FIRST).lower()}.txt' to the report.",
        lambda r: f"I always wanted to play {r.choice(_SPORTS)} with {_name(r)}.",
        lambda r: f"The painting of {r.choice(_CITIES)} is by {_name(r)}.",
        lambda r: f"We're meeting {_name(r)} on Friday and {_name(r)} on Monday.",
    ],
}


def keyed(split: Split, seed: int, size: int = 60) -> Stream:
    """A stream of about `size` updates of each kind, mixed with twice as many statements that stay true."""
    rng = random.Random(f"{split}-{seed}")
    old: list[Case] = []
    new: list[Case] = []
    used: set[str] = set()
    for _ in range(size):
        template, pool, subjects = rng.choice(_RELATIONS[split])
        subject = _subject(rng, subjects)
        first, second = _two(rng, pool or [_name(rng) for _ in range(6)])
        key = f"{template}|{subject}"
        if key in used or subject in (first, second):
            continue
        used.add(key)
        old.append(Case(template.format(s=subject, v=first), key, first))
        if rng.random() < 0.7:
            new.append(Case(template.format(s=subject, v=second), key, second))
    for speaker in _FIRST[: max(1, size // 8)]:
        for before, after, pool in rng.sample(_PERSONAL[split], 5):
            first, second = _two(rng, pool)
            key = _topic(before)
            if f"{speaker}|{key}" in used:
                continue
            used.add(f"{speaker}|{key}")
            old.append(Case(before.format(v=first), key, first, speaker))
            if rng.random() < 0.7:
                new.append(Case(after.format(v=second), key, second, speaker))
        for thing in rng.sample(_THINGS, 3):
            template = rng.choice(_ORDERS[split])
            first, second = _two(rng, ["x_", "_y", "q_", "_v", "zz", "k_"])
            key = f"{template.split('{')[0].split()[-1]} {thing}"
            old.append(Case(template.format(t=thing, v=first), key, first, speaker))
            if rng.random() < 0.7:
                new.append(Case(template.format(t=thing, v=second), key, second, speaker))
    true = [
        Case(rng.choice(_NEVER_OLD[split])(rng), speaker=rng.choice([*_FIRST, "User"]))
        for _ in range(len(old) + len(new))
    ]
    rng.shuffle(old)
    rng.shuffle(new)
    half = len(true) // 2
    first_half, second_half = old + true[:half], new + true[half:]
    rng.shuffle(first_half)
    rng.shuffle(second_half)
    return Stream(first_half + second_half)


def _topic(wording: str) -> str:
    topics = {"living": "home", "based": "home", "live": "home", "working for": "work", "work at": "work"}
    return next((topic for word, topic in topics.items() if word in wording), wording)


def _subject(rng: random.Random, kind: str) -> str:
    if kind == _PEOPLE:
        return _name(rng)
    pools = {_PLACES: _LANDS, _BOOKS: list(_WORKS), _COMPANIES: list(_FIRMS)}
    return rng.choice(pools[kind])


@dataclass(frozen=True)
class FreeUpdate:
    """An update in free text: what was said, what was said later, and a question that either could answer."""

    old: str
    new: str
    question: str


# Longer, wordier statements in which one value changes. {a} is the old value, {b} the new one.
_FREE: dict[Split, list[tuple[str, str, str, list[str]]]] = {
    "dev": [
        (
            "I'm planning a kitchen renovation with a budget of ${a}, how should I split it between "
            "cabinets and tiles?",
            "I've increased my kitchen renovation budget to ${b}, can you help me rework the split?",
            "What is my budget for the kitchen renovation?",
            ["8,000", "9,500", "12,000", "15,000"],
        ),
        (
            "My weather dashboard calls the forecast API and I'm limited to a daily quota of {a} calls.",
            "The daily quota for my forecast API key was recently raised to {b} calls, so I can poll more often.",
            "How many forecast API calls can I make per day?",
            ["1,000", "1,200", "2,500", "5,000"],
        ),
        (
            "I've got {a} flash cards in my Italian deck and I review them every morning before work.",
            "My Italian deck has grown to {b} flash cards now, so the morning review takes longer.",
            "How many flash cards are in my Italian deck?",
            ["300", "420", "510", "640"],
        ),
        (
            "I'm preparing for the half marathon on {a} and I run four times a week.",
            "The half marathon has been postponed to {b}, so I'm adjusting my training plan.",
            "When is the half marathon?",
            ["April 14", "May 5", "May 26", "June 9"],
        ),
        (
            "I'm using {a} as the database of my recipe site because the free tier is generous.",
            "I switched the database of my recipe site from {a} to {b} last week.",
            "Which database does my recipe site use?",
            ["Postgres", "MySQL", "SQLite", "MongoDB"],
        ),
        (
            "My supervisor is {a} and we meet on the second floor to talk about my thesis.",
            "{b} has taken over as my thesis supervisor instead of {a}, and wants shorter chapters.",
            "Who is my thesis supervisor?",
            ["Dr. Abreu", "Dr. Moser", "Dr. Lindt", "Dr. Novak"],
        ),
        (
            "Test coverage of the billing module stands at {a}% and I want to get the edge cases in.",
            "After a week of writing tests, coverage of the billing module has improved to {b}%.",
            "What is the test coverage of the billing module?",
            ["61", "68", "74", "82"],
        ),
        (
            "I want to save {a} euros for the trip to Japan by the end of the year.",
            "I've lowered my savings goal for the Japan trip to {b} euros since flights got cheaper.",
            "How much do I want to save for the Japan trip?",
            ["3,000", "2,600", "4,200", "3,500"],
        ),
    ],
    "held": [
        (
            "I'm training for a powerlifting meet and my current deadlift max is {a} kg, any tips on the lockout?",
            "I hit a new deadlift max of {b} kg yesterday, the lockout drills really paid off.",
            "What is my deadlift max?",
            ["140", "150", "165", "180"],
        ),
        (
            "My landlord charges {a} euros a month for the studio on Mill Street, heating included.",
            "The monthly rent of the Mill Street studio has gone up to {b} euros from this month.",
            "How much is the rent of the Mill Street studio?",
            ["610", "660", "720", "790"],
        ),
        (
            "I scheduled the dentist appointment for {a} in the morning, right before the standup.",
            "I had to reschedule my dentist appointment to {b} because of a conflict with a client call.",
            "When is my dentist appointment?",
            ["March 4", "March 12", "March 20", "April 2"],
        ),
        (
            "The response time of my booking endpoint is around {a} ms and I'd like to profile the slow queries.",
            "By adding an index I reduced the response time of the booking endpoint to {b} ms.",
            "What is the response time of the booking endpoint?",
            ["480", "310", "250", "180"],
        ),
        (
            "I've been collecting vinyl for a while and own {a} records, mostly jazz from the sixties.",
            "With the box my uncle gave me I now own {b} records.",
            "How many records do I own?",
            ["85", "97", "112", "130"],
        ),
        (
            "For the short story contest I'm writing about a lighthouse keeper and the word limit is {a} words.",
            "The organisers changed the word limit of the short story contest to {b} words.",
            "What is the word limit of the short story contest?",
            ["2,000", "2,500", "3,000", "4,000"],
        ),
        (
            "I deploy my portfolio to {a} and it takes a couple of minutes each time.",
            "I migrated my portfolio to {b}, deploys are much faster there.",
            "Where do I deploy my portfolio?",
            ["Netlify", "Heroku", "Render", "Vercel"],
        ),
        (
            "My mentor {a} suggested that I practise system design every evening.",
            "My new mentor is {b}, and we agreed to do mock interviews on Thursdays.",
            "Who is my mentor?",
            ["Greta", "Hugo", "Pablo", "Kira"],
        ),
        (
            "I'm aiming to read {a} books this year and I keep a list in my notebook.",
            "I finished faster than expected, so I raised my reading goal to {b} books this year.",
            "How many books do I want to read this year?",
            ["20", "25", "30", "40"],
        ),
        (
            "We're inviting {a} guests to the wedding and the venue is a barn outside town.",
            "After talking to both families the guest list of the wedding has expanded to {b} people.",
            "How many guests are invited to the wedding?",
            ["60", "75", "90", "120"],
        ),
        (
            "I'm putting {a} dollars a month into the index fund and leave it alone.",
            "I decided to up my monthly contribution to the index fund to {b} dollars.",
            "How much do I put into the index fund each month?",
            ["200", "250", "300", "400"],
        ),
        (
            "Our sprint review is led by {a} and takes half an hour.",
            "{b} leads the sprint review now since {a} changed teams.",
            "Who leads our sprint review?",
            ["Mara", "Nils", "Olga", "Sven"],
        ),
    ],
}
_CHATTER = (
    "Can you explain how {x} works in simple words?",
    "I tried {x} yesterday and it went better than I thought.",
    "My friend {p} is really into {x} these days.",
    "I need {n} more days before I can show the {x} to {p}.",
    "What would you suggest for someone who is new to {x}?",
    "I paid {n} dollars for a course on {x} and learned a lot.",
    "{p} and I talked about {x} for an hour, then we cooked.",
    "I've been thinking about {x} since the conference in {c}.",
    "It took me {n} attempts to get {x} right, but now I enjoy it.",
)
_TOPICS = (
    "budgeting", "index funds", "flash cards", "kitchen tiles", "marathon training", "response times", "unit tests",
    "system design", "vinyl records", "short stories", "deadlifts", "wedding speeches", "sprint planning", "forecasts",
    "API keys", "thesis writing", "train travel", "Italian grammar", "portfolio sites", "dentists", "databases",
    "renting a flat", "reading lists", "saving money",
)  # fmt: skip


def free(split: Split, seed: int, chatter: int = 160) -> tuple[Stream, list[FreeUpdate]]:
    """A conversation in which one value of each topic changes, among statements on the same topics that change none."""
    rng = random.Random(f"free-{split}-{seed}")
    updates = []
    for old, new, question, pool in _FREE[split]:
        a, b = _two(rng, pool)
        updates.append(FreeUpdate(old.format(a=a, b=b), new.format(a=a, b=b), question))
    talk = [
        rng.choice(_CHATTER).format(
            x=rng.choice(_TOPICS), p=rng.choice(_FIRST), c=rng.choice(_CITIES), n=rng.randrange(2, 60)
        )
        for _ in range(chatter)
    ]
    early = [*(update.old for update in updates), *talk[: chatter // 2]]
    late = [*(update.new for update in updates), *talk[chatter // 2 :]]
    rng.shuffle(early)
    rng.shuffle(late)
    return Stream([Case(text) for text in early + late]), updates
