"""How many secrets are found, how many look-alikes are taken for one, and what it costs.

    python -m benchmarks.secrets [--data FILE] [--corpus FILE]

Prints, by set, the share of secrets replaced beside a keyword baseline and, where it is installed, detect-secrets;
false alarms on conversations; and CPU time per turn. The sets of benchmarks/data were written by the author of the
rules: the first and second were looked at while the rules were improved, the third was not. `--corpus` takes lines of
your own: each holds a secret.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.locomo import DEFAULT, load
from engram_core.floor.secrets import findings, redacted

SETS = Path(__file__).resolve().parent / "data" / "secrets.jsonl"
_WORDS = re.compile(r"(?:password|passwd|pwd|token|secret|api[_-]?key)\s*[:=]\s*\S+", re.IGNORECASE)

# One made-up token per kind, in the shape its vendor documents. {a}: letters and digits, {h}: hexadecimal, {d}: digits,
# {u}: capitals and digits, {l}: small letters and digits; the number says how many.
SHAPES = {
    "AWS key id": "AKIA{u16}", "AWS secret": "aws_secret_access_key = {a40}", "GCP API key": "AIza{a35}",
    "Google OAuth": "ya29.{a60}", "Google client": "GOCSPX-{a28}", "Azure client": "{a3}8Q~{a34}",
    "Azure storage": "AccountKey={a86}==", "Azure DevOps": "{a76}AZDO{a4}", "GitHub classic": "ghp_{a36}",
    "GitHub fine": "github_pat_{a22}_{a59}", "GitHub app": "ghs_{a36}", "GitLab": "glpat-{a20}",
    "Slack bot": "xoxb-{d12}-{d12}-{a24}", "Slack webhook": "https://hooks.slack.com/services/T{u8}/B{u10}/{a24}",
    "Stripe": "sk_live_{a24}", "Stripe webhook": "whsec_{a32}", "OpenAI": "sk-proj-{a48}", "OpenAI old": "sk-{a48}",
    "Anthropic": "sk-ant-api03-{a86}", "Hugging Face": "hf_{w34}", "npm": "npm_{a36}",
    "PyPI": "pypi-AgEIcHlwaS5vcmc{a60}",
    "RubyGems": "rubygems_{h48}", "NuGet": "oy2{l43}", "Docker": "dckr_pat_{a27}", "Twilio": "SK{h32}",
    "SendGrid": "SG.{a22}.{a43}", "Mailgun": "key-{l32}", "Mailchimp": "{h32}-us12", "Telegram": "{d9}:AA{a33}",
    "Discord": "M{a24}.{a6}.{a38}", "Discord webhook": "https://discord.com/api/webhooks/{d18}/{a68}",
    "Shopify": "shpat_{h32}", "Square": "sq0atp-{a22}", "DigitalOcean": "dop_v1_{h64}", "Heroku": "HRKU-{a36}",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJ{a40}.{a43}",
    "PEM": "-----BEGIN PRIVATE KEY-----\n{a64}\n-----END PRIVATE KEY-----",
    "URL password": "https://bob:{a12}@host.example/x", "Postgres URL": "postgresql://app:{a12}@db/app",
    "Basic auth": "Authorization: Basic {a24}==", "Bearer": "Authorization: Bearer {a40}", "Databricks": "dapi{h32}",
    "Dropbox": "sl.{a135}", "Figma": "figd_{a40}", "Grafana": "glsa_{a32}_{h8}", "Vault": "hvs.{a24}",
    "Linear": "lin_api_{a40}", "New Relic": "NRAK-{u27}", "Notion": "ntn_{a46}", "Airtable": "pat{a14}.{h64}",
    "Alibaba": "LTAI{a20}", "Atlassian": "ATATT3{a186}", "Bitbucket": "ATBB{a32}", "Asana": "1/{d16}:{h32}",
    "CircleCI": "CCIPAT_{a22}_{h40}", "Contentful": "CFPAT-{a43}", "Doppler": "dp.pt.{a43}",
    "Dynatrace": "dt0c01.{u24}.{u64}", "Facebook": "EAA{a100}", "Instagram": "IGQV{a100}", "Netlify": "nfp_{a36}",
    "NVIDIA": "nvapi-{a64}", "PayPal": "access_token$production${l16}${h32}", "Plaid": "access-sandbox-{g}",
    "PlanetScale": "pscale_tkn_{a43}", "Postman": "PMAK-{h24}-{h34}", "Pulumi": "pul-{h40}", "Replicate": "r8_{a37}",
    "Salesforce": "00D{a12}!{a96}", "Sentry": "sntrys_{a60}", "SonarQube": "squ_{h40}", "Supabase": "sbp_{h40}",
    "Tailscale": "tskey-auth-{a12}-{a32}", "Terraform": "{a14}.atlasv1.{a67}", "Groq": "gsk_{a52}", "xAI": "xai-{a80}",
    "LangSmith": "lsv2_pt_{h32}_{h10}", "Pinecone": "pcsk_{a60}", "Perplexity": "pplx-{a48}", "Yandex": "AQVN{a36}",
    "Zoho": "1000.{h32}.{h32}", "HubSpot": "pat-na1-{g}", "Cloudinary": "cloudinary://{d15}:{a27}@demo",
    "Snyk": "snyk_token = {g}", "Datadog": "DD_API_KEY={h32}", "Okta": "okta token 00{a40}", "Vercel": "{a24}",
    "LinkedIn": "linkedin secret: {a16}", "Rollbar": "post_server_item {h32}", "Confluent": "confluent {u16} / {a64}",
    "Algolia": "x-algolia-api-key: {h32}", "Fastly": "fastly key {a32}", "Segment": "{a32}",
    "Card": "4111 1111 1111 1111",
}  # fmt: skip
_ALPHABETS = {
    "a": string.ascii_letters + string.digits, "h": "0123456789abcdef", "d": string.digits,
    "u": string.ascii_uppercase + string.digits, "l": string.ascii_lowercase + string.digits, "w": string.ascii_letters,
}  # fmt: skip


def made(shape: str, rng: random.Random) -> str:
    """A token of a shape."""
    guid = "-".join("".join(rng.choices(_ALPHABETS["h"], k=size)) for size in (8, 4, 4, 4, 12))
    drawn = shape.replace("{g}", guid)
    return re.sub(r"\{([ahdulw])(\d+)\}", lambda m: "".join(rng.choices(_ALPHABETS[m[1]], k=int(m[2]))), drawn)


def ours(text: str) -> bool:
    return bool(findings(text))


def keywords(text: str) -> bool:
    return _WORDS.search(text) is not None


def detectors() -> dict[str, Callable[[str], bool]]:
    found: dict[str, Callable[[str], bool]] = {"engram": ours, "keyword list": keywords}
    try:
        from detect_secrets.core.scan import scan_line
        from detect_secrets.settings import default_settings
    except ModuleNotFoundError:
        print("detect-secrets is not installed; its column is left out")
        return found

    def others(text: str) -> bool:
        with default_settings():
            return any(
                item.type not in {"Hex High Entropy String", "Base64 High Entropy String"} for item in scan_line(text)
            )

    return found | {"detect-secrets, without entropy": others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations for false alarms")
    parser.add_argument("--corpus", type=Path, help="a text file; every line holds a secret")
    given = parser.parse_args()
    rng = random.Random(7)
    sets: dict[str, list[str]] = defaultdict(list)
    sets["vendors' tokens"] = [f"here it is: {made(shape, rng)} ok" for shape in SHAPES.values()]
    for line in SETS.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        sets[item["set"]].append(item["text"])
    if given.corpus:
        sets[given.corpus.name] = [
            line for line in given.corpus.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
    turns = (
        [m.content for conversation in load(given.data) for m in conversation.messages] if given.data.exists() else []
    )
    tools = detectors()
    print(f"{'set':24}{'n':>6}" + "".join(f"{name:>34}" for name in tools))
    for name, texts in sets.items():
        print(
            f"{name:24}{len(texts):>6}"
            + "".join(f"{sum(map(tool, texts)) / len(texts):>34.1%}" for tool in tools.values())
        )
    if turns:
        print(
            f"{'false alarms: turns':24}{len(turns):>6}"
            + "".join(f"{sum(map(tool, turns)):>34}" for tool in tools.values())
        )
        for name, tool in tools.items():
            started = time.process_time()
            for text in turns:
                tool(text)
            print(f"CPU time, {name}: {(time.process_time() - started) / len(turns) * 1e6:.0f} µs per turn")
    left = [json.loads(line) for line in SETS.read_text(encoding="utf-8").splitlines()]
    kept = [
        item["text"]
        for item in left
        if item["secret"] and item["secret"] in redacted(item["text"], findings(item["text"]))
    ]
    print(f"chat sentences whose whole secret is still readable: {len(kept)}")
    missed = [name for name, shape in SHAPES.items() if not ours(f"here it is: {made(shape, rng)} ok")]
    print(f"vendors missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
