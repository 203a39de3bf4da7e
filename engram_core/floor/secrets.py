"""Secrets: finds credentials and personal data in a text and replaces them. Pure; it stores nothing and calls nobody.

Three layers: the shapes of vendors' tokens, validators (Luhn, mod 97, address ranges), and words that announce a secret
("the door code is ..."). None of them is complete; see docs/trust.md for what they catch.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from engram_core.floor.patterns import Patterns, span

PLACEHOLDER: Final = "[redacted: {kind}]"

_HEX32: Final = "[0-9a-f]{32}"
_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def _token(body: str) -> str:
    """A token that no letter or digit precedes; RE2 looks at no neighbours, so the neighbour is matched as well."""
    return f"(?:^|[^A-Za-z0-9])(?P<v>{body})"


_VENDORS: Final[Mapping[str, str]] = {
    "adafruit key": _token("aio_[A-Za-z0-9]{28}"),
    "adobe secret": _token("p8e-[A-Za-z0-9]{32}"),
    "age key": _token("AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    "airtable token": _token(r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    "akamai token": _token("akab-[a-z0-9]{16}-[a-z0-9]{16}"),
    "alibaba key": _token("LTAI[A-Za-z0-9]{12,22}"),
    "amazon oauth secret": _token(r"amzn1\.oa2-cs\.v1\.[a-f0-9]{64}|Atz[ar]\|[A-Za-z0-9_/+=-]{40,}"),
    "anthropic key": _token("sk-ant-[a-z0-9]{2,12}-[A-Za-z0-9_-]{20,}"),
    "artifactory key": _token("AKC[A-Za-z0-9]{60,}|cmVmdGtu[A-Za-z0-9]{50,}"),
    "asana token": _token("[0-9]/[0-9]{12,20}(?:/[0-9]{12,20})?:[a-f0-9]{32}"),
    "atlassian token": _token("AT(?:ATT|CTT|BB|SATT)[A-Za-z0-9+/_=-]{28,}|BBDC-[A-Za-z0-9+/@_-]{40,}"),
    "aws key id": _token("(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|ANPA|ANVA|A3T[A-Z0-9])[A-Z0-9]{16}"),
    "aws secret key": r"(?i)(?:aws|secret|amazon)[a-z0-9_. -]{0,24}[\"']?\s{0,3}(?:=>|=|:|is)\s{0,3}[\"']?(?P<v>[A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+]|$)",
    "aws bedrock key": _token("ABSK[A-Za-z0-9+/]{100,}={0,2}"),
    "aws mws token": _token(rf"amzn\.mws\.{_UUID}"),
    "azure secret": _token(r"[A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}"),
    "azure key": _token(
        r"[A-Za-z0-9+/_-]{28,90}(?:AzFu|AzSe|AzCa|ACDb|APIM|\+ASt|\+ACR|\+ABa|\+AMC|\+AEh|\+ARm|AIoT|AARC)[A-Za-z0-9+/=]{4,12}"
    ),
    "azure devops token": _token("[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}"),
    "azure storage key": r"(?i)(?:AccountKey|SharedAccessKey|sharedsecret)\s{0,2}=\s{0,2}(?P<v>[A-Za-z0-9+/]{40,90}={0,2})",
    "azure signature": r"[?&]sig=(?P<v>[A-Za-z0-9%+/=]{40,})",
    "bearer token": r"(?i)\b(?:bearer|authorization:\s{0,3}(?:basic|token|digest|apikey))\s{1,3}[\"']?(?P<v>[A-Za-z0-9._~+/=-]{16,})",
    "brevo key": _token("xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}|xsmtpsib-[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    "circleci token": _token("CCI(?:PAT|PRJ)_[A-Za-z0-9]{20,24}_[a-f0-9]{40}"),
    "clojars token": _token("CLOJARS_[a-z0-9]{60}"),
    "cloudflare key": _token(r"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}|cf[ua]t_[A-Za-z0-9_-]{30,}"),
    "composio key": _token("ak_[A-Za-z0-9_-]{20,40}"),
    "contentful token": _token("CFPAT-[A-Za-z0-9_-]{40,}"),
    "crates.io token": _token("cio[A-Za-z0-9]{32}"),
    "databricks token": _token("dapi[a-f0-9]{32}(?:-[0-9])?|dkea[a-f0-9]{32}|dose[a-f0-9]{32}"),
    "defined networking key": _token("dnkey-[A-Z0-9]{26}-[A-Z0-9]{52}"),
    "digitalocean token": _token("do[oprt]_v1_[a-f0-9]{64}"),
    "discord token": _token(r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}"),
    "discord webhook": r"(?i)(?P<v>discord(?:app)?\.com/api/webhooks/[0-9]{10,25}/[A-Za-z0-9_-]{40,})",
    "docker token": _token("dckr_(?:pat|oat)_[A-Za-z0-9_-]{24,}"),
    "doppler token": _token(r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{40,}"),
    "dropbox token": _token(r"sl\.[A-Za-z0-9_.-]{100,}"),
    "duffel token": _token("duffel_(?:test|live)_[A-Za-z0-9_=-]{40,}"),
    "dynatrace token": _token(r"dt0[a-z][0-9]{2}\.[A-Z0-9]{8,24}\.[A-Z0-9]{64}"),
    "easypost key": _token("EZ[AT]K[A-Za-z0-9]{54}"),
    "facebook token": _token("EAA[A-Za-z0-9]{60,}"),
    "figma token": _token("fig[dpour]{1,2}_[A-Za-z0-9_-]{36,}"),
    "firebase key": _token("AAAA[A-Za-z0-9_-]{7}:[A-Za-z0-9_-]{100,}"),
    "flutterwave key": _token("FLW(?:SEC|PUB)K(?:_TEST|_LIVE)?-[a-f0-9]{12,64}(?:-X)?"),
    "github token": _token("gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"),
    "gitlab token": _token(
        "gl(?:pat|ptt|dt|rt|rtr|ft|soat|agent|cbt|imt|oas|ffct)-[A-Za-z0-9_.=-]{20,}|GR1348941[A-Za-z0-9_-]{20}"
    ),
    "gocardless token": _token("live_[A-Za-z0-9_=-]{40}"),
    "google api key": _token("AIza[0-9A-Za-z_-]{35}"),
    "google oauth secret": _token("GOCSPX-[A-Za-z0-9_-]{20,}"),
    "google oauth token": _token(r"ya29\.[0-9A-Za-z_-]{20,}|1//0[0-9A-Za-z_-]{30,}"),
    "grafana token": _token("glsa_[A-Za-z0-9]{32}_[a-fA-F0-9]{8}|glc_[A-Za-z0-9+/=]{32,}|eyJrIjoi[A-Za-z0-9+/=]{60,}"),
    "groq key": _token("gsk_[A-Za-z0-9]{40,}"),
    "heroku key": _token("HRKU-[A-Za-z0-9_-]{36,}"),
    "hubspot token": _token(rf"(?i:pat-[a-z]{{2}}[0-9]-{_UUID})"),
    "huggingface token": _token("hf_[A-Za-z]{30,40}|api_org_[A-Za-z]{30,40}"),
    "instagram token": _token("IG(?:QV|AA)[A-Za-z0-9_-]{80,}"),
    "jwt": _token(r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){0,3}"),
    "langsmith key": _token("lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    "linear key": _token("lin_(?:api|oauth)_[A-Za-z0-9]{32,64}"),
    "lob key": _token("(?:live|test)_(?:pub_)?[a-f0-9]{31,35}"),
    "mailchimp key": _token(f"{_HEX32}-us[0-9]{{1,2}}"),
    "mailgun key": _token("key-[0-9a-z]{32}|pubkey-[0-9a-f]{32}|[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}"),
    "mapbox token": _token(r"[ps]k\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{16,}"),
    "netlify token": _token("nf[pcou]_[A-Za-z0-9]{32,}"),
    "newrelic key": _token("NR(?:AK|II|JS|RA|BR|SP)-[A-Za-z0-9_-]{19,36}"),
    "notion token": _token("(?:secret|ntn)_[A-Za-z0-9]{40,}"),
    "npm token": _token("npm_[A-Za-z0-9]{36}"),
    "nuget key": _token("oy2[a-z0-9]{43}"),
    "nvidia key": _token("nvapi-[A-Za-z0-9_-]{50,}"),
    "onepassword token": _token("ops_eyJ[A-Za-z0-9+/_=-]{60,}|A3-[A-Z0-9]{6}-[A-Z0-9]{6,11}(?:-[A-Z0-9]{5}){3,5}"),
    "openai key": _token("sk-(?:proj|svcacct|admin|None|or-v1|lf)?-?[A-Za-z0-9_-]{20,}"),
    "openshift token": _token("sha256~[A-Za-z0-9_-]{43}"),
    "paypal token": _token(r"access_token\$(?:production|sandbox)\$[a-z0-9]{12,20}\$[a-f0-9]{32}"),
    "perplexity key": _token("pplx-[A-Za-z0-9]{32,}"),
    "pinecone key": _token("pcsk_[A-Za-z0-9_]{40,}"),
    "plaid token": _token(rf"access-(?:sandbox|development|production)-{_UUID}"),
    "planetscale token": _token("pscale_(?:tkn|pw|oauth)_[A-Za-z0-9=._-]{32,}"),
    "postman key": _token("PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    "prefect key": _token("pn[ub]_[A-Za-z0-9]{36}"),
    "private key": r"(?P<v>-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\\\s:,.()-]*(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?)",
    "pulumi token": _token("pul-[a-f0-9]{40}"),
    "putty key": r"(?P<v>PuTTY-User-Key-File-[0-9]:[A-Za-z0-9+/=\\\s:,.()-]*)",
    "pypi token": _token("pypi-AgE[A-Za-z0-9_-]{40,}"),
    "readme key": _token("rdme_[a-z0-9]{60,}"),
    "replicate token": _token("r8_[A-Za-z0-9]{36,40}"),
    "resend key": _token("re_[A-Za-z0-9]{6,10}_[A-Za-z0-9]{16,32}"),
    "rubygems key": _token("rubygems_[a-f0-9]{48}"),
    "salesforce token": _token(r"00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]{60,}"),
    "scalingo token": _token("tk-us-[A-Za-z0-9_-]{48}"),
    "sendgrid key": _token(r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    "sentry token": _token("sntry[su]_[A-Za-z0-9+/=_]{40,}"),
    "shippo token": _token("shippo_(?:live|test)_[a-fA-F0-9]{40}"),
    "shopify token": _token("shp(?:at|ca|pa|ss|tka|ua)_[a-fA-F0-9]{32}"),
    "slack token": _token(
        r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]+|xwfp-[0-9a-zA-Z-]{20,}"
    ),
    "slack webhook": r"(?P<v>hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/_]{20,})",
    "sonar token": _token("sq[upa]_[a-f0-9]{40}"),
    "square token": _token("sq0[a-z]{3}-[A-Za-z0-9_-]{22,43}|EAAA[A-Za-z0-9_-]{56,}"),
    "stripe key": _token("(?:sk|rk|pk)_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{24,}"),
    "supabase key": _token("sbp_[a-f0-9]{40}|sb_(?:secret|publishable)_[A-Za-z0-9_-]{20,}"),
    "tailscale key": _token("tskey-[a-z]{3,12}-[A-Za-z0-9]{8,}-[A-Za-z0-9]{20,}"),
    "tavily key": _token("tvly-(?:dev-|prod-)?[A-Za-z0-9]{28,}"),
    "teams webhook": r"(?i)(?P<v>[a-z0-9-]{1,63}\.webhook\.office\.com/webhookb2/[a-z0-9@/-]{60,})",
    "telegram token": _token("[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}"),
    "tencent key": _token("AKID[A-Za-z0-9]{32}"),
    "terraform token": _token(r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}"),
    "twilio key": _token("(?:SK|AC)[0-9a-f]{32}"),
    "typeform token": _token("tfp_[A-Za-z0-9_.=-]{40,}"),
    "url password": r"(?i)\b[a-z][a-z0-9+.-]{1,24}://[^\s/:@\"'<>]{0,128}:(?P<v>[^\s/@\"'<>]{1,256})@[^\s/]",
    "vault token": _token(r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    "xai key": _token("xai-[A-Za-z0-9]{60,}"),
    "yandex token": _token(
        r"AQVN[A-Za-z0-9_-]{35,40}|y[0-3]_[A-Za-z0-9_-]{50,}|t1\.[A-Za-z0-9_-]{60,}=*\.[A-Za-z0-9_-]{80,}"
    ),
    "zapier webhook": r"(?P<v>hooks\.zapier\.com/hooks/catch/[0-9]{4,12}/[A-Za-z0-9]{4,20})",
    "zoho token": _token(r"1000\.[a-f0-9]{32}\.[a-f0-9]{32}"),
    "card number": r"(?:^|[^0-9A-Za-z.-])(?P<v>[2-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,7}|3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5})(?:[^0-9A-Za-z]|$)",
}

# What a person or a configuration file calls a secret. The value stands behind it.
_STRONG: Final = (
    "pass ?words?|passwd|pass ?phrase|pass ?code|passwort|pass|pwd|psw|pword|pw|"
    "kennwort|zugangscode|contrase(?:ñ|n)a|clave|mot de passe|senha|wachtwoord|has(?:ł|l)o|l(?:ö|o)senord|adgangskode|"
    "parola|salasana|şifre|пароль|密码|密碼|パスワード|비밀번호"
)
_KEYS: Final = (
    "api[ _-]?keys?|apikey|secret[ _-]?key|secret|access[ _-]?key|access[ _-]?token|auth[ _-]?token|auth[ _-]?key|"
    "client[ _-]?secret|app[ _-]?secret|private[ _-]?key|encryption[ _-]?key|signing[ _-]?key|license[ _-]?key|"
    "network[ _-]?key|wi-?fi[ _-]?key|security[ _-]?key|token|credentials?|salt|nonce"
)
_CODES: Final = (
    "pin|pins|pin[ -]?code|pin[ -]?number|puk|cvv|cvc|otp|2fa(?: code)?|pass-?key|"
    "(?:door|gate|alarm|entry|access|security|safe|lock|lock ?box|locker|garage|building|lobby|house|unlock|unlocking|elevator|lift|vault|"
    "verification|recovery|backup|reset|login|sign-?in|one-?time|key ?pad|key-?safe|phone|sim|voicemail|cellar|shed|bike|bike lock|suitcase|"
    "key|secret|disarm|duress)[ -]?codes?|codes? (?:for|to|of|on|at) (?:the|my|our|his|her|their|that|this) [a-z' -]{2,40}|code|"
    "combination|combo|alarm|wi-?fi|t(?:ü|u)rcode|codice|c(?:ó|o)digo|code d'acc(?:è|e)s|digicode|geheimzahl"
)
_LINK: Final = (
    r"[\"'\])}]{0,3}(?:\s{1,3}(?:for|to|of|on|at|in|with|from|there|here|de|del|du|des|pour|für|fürs|vom|zum|von|beim|para|al|do|da|dla|di)(?:\s{1,3}[^\s=:;,]+){1,6}?)?"
    r"\s{0,8}(?:=>|:=|==?|::?|->|→|\bis\b|\bwas\b|\bare\b|’s\b|'s\b|\bist\b|\blautet\b|\best\b|\bes\b|\be\b|é|\bè\b|は|是)"
    r"(?:\s{1,3}(?:now|still|currently|just|actually|always|again|set to|changed to|called|going to be|simply|only|probably|something like))?"
)
_VALUE: Final = r"\s{0,8}(?:[\"'`“‘«]\s?(?P<v>[^\"'`”’»\n]{3,200})[\"'`”’»]|(?P<w>[^\s\"'`,;<>(){}\[\]]{2,200}))"
_BARE: Final = r"[\s:=#]{1,4}(?P<v>[0-9]{4,8}[#*]?)(?:[^\pL\pN.,/:-]|[.,][^0-9]|[.,]?$)"

_CONTEXT: Final[Mapping[str, str]] = {
    "password": rf"(?i)(?:^|[^\pL\pN]|_)(?:[a-z0-9]{{0,24}}[_-])?(?P<k>{_STRONG})(?:[_-][a-z0-9]{{1,24}})?{_LINK}{_VALUE}",
    "key": rf"(?i)(?:^|[^\pL\pN]|_)(?:[a-z0-9]{{0,24}}[_-])?(?P<k>{_KEYS})(?:[_-][a-z0-9]{{1,24}})?{_LINK}{_VALUE}",
    "code": rf"(?i)(?:^|[^\pL\pN])(?P<p>[^\s,;:=.]+[ -])?(?P<k>{_CODES}){_LINK}{_VALUE}",
    "bare": rf"(?i)\b(?:pin|puk|passcode|pass code|door code|gate code|alarm code|access code|security code|cvv|cvc){_BARE}",
    "digits": rf"(?i)(?:^|[^\pL\pN])(?P<k>{_CODES}){_LINK}\s{{0,4}}(?P<v>[0-9]{{1,3}}(?:[ -][0-9]{{1,3}}){{2,3}}[#*]?)(?:[^\pL\pN]|$)",
    "after code": r"(?i)(?:^|[^\pL\pN])(?P<p>[^\s,;:=.]+[ -])?code\s(?P<v>[0-9]{4,8}[#*]?)(?:[^\pL\pN.,/:-]|[.,][^0-9]|[.,]?$)",
    "lock": r"(?i)\b(?:safe|lock|locker|suitcase|padlock|vault|lock ?box|key ?pad|key ?safe|gate|door|alarm|shed|garage|bike)\s(?:opens with|opens on|is set to|needs|takes|wants|is|to)\s(?P<v>[0-9]{4,8}[#*]?|[0-9]{1,3}(?:[- ][0-9]{1,3}){2,3})(?:[^\pL\pN.,/:-]|[.,][^0-9]|[.,]?$)",
    "press": r"(?i)\b(?:punch(?: in)?|press|dial|key in|type(?: in)?|enter|use|tap|need|with)\s(?P<v>[0-9]{4,8}[#*]?|[0-9]{3}[#*]|[0-9]{1,3}(?:-[0-9]{1,3}){2,3})\s(?:at|on|to|for|into)\s(?:[^\s,;:=]+\s){0,3}?(?:gate|door|alarm|lock|safe|key ?pad|garage|entry|entrance|open|disarm|arm|unlock|get in|get into|get through)\b",
    "place": r"(?i)\b(?:gate|garage|door|alarm|entrance|lobby|safe|shed|intercom|barrier|cellar|locker|key ?safe|key ?pad)\s?[:=]\s?(?P<v>[0-9]{4,8}[#*]?)(?:[^\pL\pN.,/:-]|[.,][^0-9]|[.,]?$)",
    "loose": rf"(?i)(?:^|[^\pL\pN]|_)(?P<k>{_STRONG})(?:[?,]?\s(?:[^\s,;:=]+\s){{0,3}}?[^\s,;:=]+:|[?:,=-]{{0,2}})\s[\"'`“‘]?(?P<v>[^\s\"'`”’,;]{{6,64}})",
    "as password": r"(?i)(?:^|\s)[\"'`“‘]?(?P<v>[^\s\"'`”’,;:=]{5,64})[\"'`”’]?\s(?:as|is|was)\s(?:my|his|her|our|the|their|your)\s(?:[^\s,;:=]+\s){0,2}?(?:password|passphrase|passcode|pass|pw|pwd)\b",
    "element": r"(?i)<[a-z0-9_.:-]{0,32}(?:password|passwd|secret|token|api_?key)[a-z0-9_.-]{0,16}>(?P<v>[^<>\s]{3,200})</",
    "shell": r"(?i)\b(?:sshpass\s{1,3}-p\s?[\"']?|mysql\b[^\n]{0,80}?\s-p|net user\s[^\s]{1,40}\s)(?P<v>[^\s\"']{4,64})",
    "admin": r"(?i)\b(?:admin|administrator|root|guest|user)\s?/\s?(?P<v>[^\s/,;]{4,64})(?:[\s,;]|$)",
    "credentials": r"(?i)\b(?:credentials|creds|log ?in|access)(?:\s[^\s,;:=]+){0,5}?:\s?[^\s,;:=/|]+\s?[/|]\s?(?P<v>[^\s/,;|]{4,64})",
    "before": r"(?i)(?:^|[^\pL\pN.,:/-])(?P<v>[0-9]{4,8}[#*]?|[0-9]{1,3}(?:-[0-9]{1,3}){2,3})\s(?:is|was|opens|unlocks|disarms|works for|gets you (?:in|into)|for)\s"
    r"(?:the|my|our|his|her|their)\s(?:[a-z'-]{1,20}\s){0,3}(?:door|gate|alarm|code|pin|passcode|password|safe|lock|locker|garage|lockbox|vault|keypad|combination|shed|cellar)",
    "spoken": r"(?i)\b(?:password|passphrase|passcode|passwort|kennwort|contraseña|mot de passe)\s(?:for\s(?:[^\s,;:=]+\s){1,5})?(?:is|ist|es|est)\s(?P<v>[^\s\d!-@]{5,40})\s?(?:[.!]|$|\n)",
    "changed": rf"(?i)\b(?:{_STRONG}|pin|code|combination)\s(?:[^\s,;:=]+\s){{0,6}}?to\s[\"'`“‘]?(?P<v>[^\s\"'`”’,;]{{4,64}})",
    "typed": r"(?i)\b(?:log ?in|login|sign in|type(?: in)?|enter|use|punch in|dial|key in|press)\s(?:[^\s,;:=]+\s){0,6}?(?:password|pw|pass|code|pin|combination)\s(?:of\s|is\s)?[\"'`“‘]?(?P<v>[^\s\"'`”’,;]{3,64})",
    "curl": r"(?i)\bcurl\b[^\n]{0,200}?\s(?:-u|--user)[ =][\"']?[^\s:\"']{1,64}:(?P<v>[^\s\"']{3,128})",
    "pair": r"(?i)\b(?:log ?in|creds?|credentials|user(?:name)?|account|admin|root)\s{0,2}(?:is|are|:|=|-|with)?\s{0,2}[^\s,;:=|/]+\s{0,2}(?:/|\||,? ?(?:pw|pass|pwd)\b\s?[:=]?)\s{0,2}(?P<v>[^\s\"'`”’,;|]{4,64})",
}

_PERSONAL: Final[Mapping[str, str]] = {
    "e-mail": r"(?:^|[^A-Za-z0-9._%+-])(?P<v>[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})",
    "phone": r"(?:^|[^0-9A-Za-z.])(?P<v>\+[0-9]{1,3}[ ().-]{0,2}[0-9][0-9 ().-]{6,16}[0-9]|\(?[0-9]{3}\)?[ .-][0-9]{3}[ .-][0-9]{4}|0[0-9]{2,4}[ /-][0-9 -]{5,10}[0-9])(?:[^0-9A-Za-z]|$)",
    "iban": r"(?:^|[^A-Z0-9])(?P<v>[A-Z]{2}[0-9]{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?)(?:[^A-Za-z0-9]|$)",
    "social security number": r"(?:^|[^0-9A-Za-z-])(?P<v>[0-8][0-9]{2}[ -][0-9]{2}[ -][0-9]{4})(?:[^0-9A-Za-z-]|$)",
    "ip address": r"(?:^|[^0-9A-Za-z.])(?P<v>[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?:[^0-9A-Za-z.-]|[.](?:[^0-9]|$)|$)",
    "ipv6 address": r"(?i)(?:^|[^0-9a-z:])(?P<v>(?:[0-9a-f]{1,4}:){2,7}(?::|[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,5}))(?:[^0-9a-z:]|$)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One secret or piece of personal data in a text: what kind it is of, and where it stands."""

    kind: str
    start: int
    end: int
    is_personal: bool = False


_SHAPES: Final = Patterns({f"vendor/{name}": body for name, body in _VENDORS.items()})
_ANNOUNCED: Final = Patterns({f"context/{name}": body for name, body in _CONTEXT.items()})
_PEOPLE: Final = Patterns({f"personal/{name}": body for name, body in _PERSONAL.items()})
# Most sentences hold neither a long token nor a word that announces a secret; they are told apart here, cheaply.
_MAY_HOLD_A_TOKEN: Final = re.compile(r"\S{12}|(?:\d[ -]?){12}|-----BEGIN")
_STEMS: Final = (
    *"pass pw psw pword wort contrase clave senha haslo hasło senord adgangskode parola salasana şifre пароль 密码".split(),
    *"密碼 パスワード 비밀번호 key secret token credential creds salt nonce pin puk cvv cvc otp 2fa code códig codice".split(),
    *"comb alarm unlock disarm intercom barrier wifi wi-fi geheimzahl login account admin root curl safe lock door gate garage vault cellar shed".split(),
    "mot de",
    "log in",
)
VENDOR_KINDS: Final = tuple(_VENDORS)
"""The kinds told by their shape."""
PERSONAL_KINDS: Final = tuple(_PERSONAL)


def findings(text: str, *, secrets: bool = True, personal: bool = False) -> list[Finding]:
    """What to redact in a text.

    Args:
        text: Without lone surrogates.
        secrets: Whether to look for credentials.
        personal: Whether to look for e-mail addresses, telephone numbers, IBANs, US social security numbers and IP
            addresses as well.

    Returns:
        In the order of the text, none overlapping; of overlapping ones the one that starts first, then the longest.
    """
    if not (secrets or personal) or not text:
        return []
    found: list[Finding] = []
    for patterns in _worth_asking(text, secrets, personal):
        for name in patterns.hits(text):
            layer, _, kind = name.partition("/")
            judge = _JUDGES.get(name, _whole)
            for match in patterns.matches(name, text):
                place = judge(match)
                if place is not None:
                    found.append(Finding(_KINDS.get(name, kind), *place, is_personal=layer == "personal"))
        if patterns is _ANNOUNCED:
            found += _near(text)
    return _disjoint(found)


def _worth_asking(text: str, secrets: bool, personal: bool) -> Iterator[Patterns]:
    if secrets and _MAY_HOLD_A_TOKEN.search(text):
        yield _SHAPES
    if secrets:
        lower = text.lower()
        if any(stem in lower for stem in _STEMS):
            yield _ANNOUNCED
    if personal:
        yield _PEOPLE


def redacted(text: str, found: Iterable[Finding]) -> str:
    """`text` with every finding replaced by `[redacted: <kind>]`; findings as `findings` returns them."""
    parts, done = [], 0
    for item in found:
        parts += [text[done : item.start], PLACEHOLDER.format(kind=item.kind)]
        done = item.end
    return "".join([*parts, text[done:]])


def _disjoint(found: list[Finding]) -> list[Finding]:
    kept: list[Finding] = []
    for item in sorted(found, key=lambda item: (item.start, -item.end)):
        if not kept or item.start >= kept[-1].end:
            kept.append(item)
    return kept


Span = tuple[int, int]


def _whole(match: Any) -> Span | None:
    start, end = span(match, "v")
    return (start, end) if start < end else None


def _valid(is_valid: Callable[[str], bool]) -> Callable[[Any], Span | None]:
    return lambda match: span(match, "v") if is_valid(match["v"]) else None


def _luhn(value: str) -> bool:
    digits = [int(character) for character in value if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(value: str) -> bool:
    bare = value.replace(" ", "")
    if not 15 <= len(bare) <= 34:
        return False
    moved = bare[4:] + bare[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _ssn(value: str) -> bool:
    area, group, serial = re.split("[ -]", value)
    return area not in {"000", "666"} and group != "00" and serial != "0000"


_GROUPED: Final = re.compile(r"\d{3}[ -]\d{2}[ -]\d{4}")


def _phone(value: str) -> bool:
    # Three, two and four digits are a social security number, or none; never a telephone's.
    return 7 <= sum(character.isdigit() for character in value) <= 15 and not _GROUPED.fullmatch(value)


# --- words that announce a secret ------------------------------------------------------------------------------------

_OTHER_CODES: Final = frozenset(
    "zip postal post area country dress source error exit status discount promo promotion coupon voucher booking order "
    "referral product bar qr color colour hex tax sort swift currency language morse genetic airport iata http response "
    "return unit course icd diagnosis sample python java javascript legacy production dead clean machine html css rust "
    "conduct building city state honor honour cheat bank branch dial calling invitation offer gift affiliate "
    "trading ticker stock tariff hs naics flight train room project cost budget charge".split()
)
_NO_SECRETS: Final = frozenset(
    "about above again against already also always another any anything anywhere available back bad basically because before "
    "being better blank blocked broken case changed changing clear coming compromised confidential confusing correct crucial "
    "currently default deleted different difficult disabled dumb easier easy empty encrypted enough equal exactly expired "
    "expiring false first fine forgotten found funny given going gone good great hard hashed here hidden huge impossible "
    "important inside incorrect insecure invalid known leaked legit likely locked long longer lost maybe mandatory mentioned "
    "missing necessary needed never nothing null okay old optional outdated perfect policy possible pretty private probably "
    "protected public random ready really required reset right rotated safe same saved secret secure sensitive sent shared "
    "short simple simply some something somewhere still stored strange strong stronger stuck stupid supposed sure taped temporary "
    "terrible their there these thing this those tricky true unchanged under unique unknown unsafe updated useless valid very "
    "visible weak weird what when where which with without working written wrong your yours none true undefined changeme "
    "string text value field input hidden example placeholder letters numbers digits characters case-sensitive "
    "falsch richtig abgelaufen sicher unsicher geheim vergessen incorrecta incorrecto segura expirado incorrect expiré oublié".split()
)
_NOT_A_VALUE: Final = re.compile(
    r"https?://|\$\{|\$\(|%\(|\{\{|<|\[|os\.|process\.|env\.|getenv|self\.|this\.|config\.|settings\.|[$€£¥]\d|\*+$|[xX.]+$|-+$|\.\.\.",
    re.IGNORECASE,
)
_CHAIN: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$")
_SYMBOL: Final = re.compile(r"[!@#$%^&*+=~?|\\/_]")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*$")
_TIME_OR_PRICE: Final = re.compile(
    r"\d{1,2}[:.h]\d{2}(?:[ap]m)?$|\d+(?:st|nd|rd|th|%|k|m|am|pm|x)$|\d{1,3}(?:[.,]\d{1,3})+$", re.IGNORECASE
)
_YEAR: Final = re.compile(r"(?:19|20)\d\d$")
_SHORTEST_KEY: Final = 8
_ENDINGS: Final = ("ed", "ing", "ly", "able", "ible", "ful", "ive", "ous", "ant", "ent", "less", "ary", "ting")


def _value(match: Any) -> tuple[str, int, int, bool]:
    """The value behind the words, without closing punctuation; where it stands; and whether it is quoted."""
    is_quoted = match["v"] is not None
    start, end = span(match, "v" if is_quoted else "w")
    value = match["v"] if is_quoted else match["w"]
    if not is_quoted:
        stripped = value.rstrip(".:?…")
        value, end = stripped, end - (len(value) - len(stripped))
    return value, start, end, is_quoted


def _is_assigned(match: Any, start: int) -> bool:
    """Whether a sign stands before the value rather than a verb."""
    before: str = match[0][: start - match.start()].rstrip(" \"'`“‘«")
    return before.endswith(("=", ":", ">", "→"))


def _has_mark(value: str) -> bool:
    """Whether it holds a digit or a symbol that words do not have; what closes a sentence does not count."""
    inner = value.rstrip("!?.")
    return any(character.isdigit() for character in inner) or _SYMBOL.search(inner) is not None


def _is_plain(value: str) -> bool:
    return _WORD.match(value.rstrip("!?.")) is not None


def _is_word_of_prose(value: str) -> bool:
    word = value.rstrip("!?.").casefold()
    return word in _NO_SECRETS or word.endswith(_ENDINGS) or not _is_plain(value)


def _password(match: Any) -> Span | None:
    value, start, end, is_quoted = _value(match)
    if len(value) < 3 or _NOT_A_VALUE.match(value) or _CHAIN.match(value):
        return None
    if is_quoted:
        return (start, end) if value.casefold() not in _NO_SECRETS and len(value.split()) <= 6 else None
    if _has_mark(value) and not _TIME_OR_PRICE.match(value) and not _is_slashed_words(value):
        return start, end
    is_word = len(value) >= 5 and not _is_word_of_prose(value)
    return (start, end) if _is_assigned(match, start) and is_word else None


def _is_slashed_words(value: str) -> bool:
    """`and/or`, `login/password`: words with a stroke between them."""
    return all(_WORD.match(part) for part in value.split("/"))


def _key(match: Any) -> Span | None:
    value, start, end, is_quoted = _value(match)
    if len(value) < _SHORTEST_KEY or " " in value or _NOT_A_VALUE.match(value) or _CHAIN.match(value):
        return None
    has_digit = any(character.isdigit() for character in value)
    has_letter = any(character.isalpha() for character in value)
    is_long = len(value) >= 16 and not _is_plain(value) and not _is_slashed_words(value)
    is_mixed = has_digit and has_letter and not _TIME_OR_PRICE.match(value)
    is_marked = is_quoted and _has_mark(value)
    return (start, end) if is_mixed or is_marked or (is_long and (has_digit or _is_assigned(match, start))) else None


def _code(match: Any) -> Span | None:
    value, start, end, is_quoted = _value(match)
    word, before = match["k"].casefold(), (match["p"] or "").strip(" -").casefold()
    digits = sum(character.isdigit() for character in value)
    if (
        _NOT_A_VALUE.match(value)
        or _TIME_OR_PRICE.match(value)
        or len(value) > 40
        or (is_quoted and " " in value and digits < 3)
    ):
        return None
    if word.startswith(("wifi", "wi-fi")):
        return (start, end) if len(value) >= 8 and digits and not _is_plain(value) else None
    if word in {"code", "alarm", "combo", "combination"} or word.startswith("codes"):
        is_number = digits >= 4 or (digits >= 3 and any(mark in value for mark in "#*-"))
        is_other = before in _OTHER_CODES or any(character.isalpha() for character in value)
        return (start, end) if is_number and not is_other else None
    return (start, end) if digits >= 3 and before not in _OTHER_CODES else None


def _before(match: Any) -> Span | None:
    return None if _YEAR.match(match["v"]) else span(match, "v")


def _spoken(match: Any) -> Span | None:
    return None if _is_word_of_prose(match["v"]) else span(match, "v")


def _marked(match: Any) -> Span | None:
    """A value that only counts with a digit or a symbol in it."""
    value = match["v"].rstrip(".:?!…")
    is_code = re.search(
        r"\b(?:code|pin|combination)\s+(?:of\s|is\s)?[\"'`“‘]?$",
        match[0][: span(match, "v")[0] - match.start()],
        re.IGNORECASE,
    )
    if is_code and not re.fullmatch(r"\d{3,10}[#*]?", value):
        return None
    start = span(match, "v")[0]
    is_secret = _has_mark(value) and not _NOT_A_VALUE.match(value) and not _TIME_OR_PRICE.match(value)
    return (start, start + len(value)) if is_secret and not _is_slashed_words(value) else None


_NEAR: Final = Patterns(
    {
        "password": rf"(?i)(?:^|[^\pL\pN])(?P<v>{_STRONG}|unlocks)(?:[^\pL\pN]|$)",
        "code": r"(?i)(?:^|[^\pL\pN])(?P<v>pin|puk|otp|combo|disarm|key ?pad|intercom|barrier|(?:door|gate|alarm|entry|access|garage|lock|security|"
        r"house|key|unlock)[ -]?code)(?:[^\pL\pN]|$)",
    }
)
_TOKEN: Final = re.compile(r"[^\s\"'`“”‘’«»,;()\[\]{}<>]{4,64}")
_SENTENCE: Final = re.compile(r"[.!?](?:\s|$)|\n")
_NUMBER: Final = re.compile(r"\d{4,8}[#*]?$|\d{1,3}(?:-\d{1,3}){2,3}$")
# Names of things that mix letters and digits and that nobody takes for a password.
_NAMED: Final = re.compile(
    r"(?:iphone|ipad|windows|galaxy|pixel|ps|xbox|covid|wpa|mp|sha|md|utf|ipv|http|usb|python|office|level|room|floor|gate|unit|"
    r"version|v|no|nr|chapter|day|week|q|h)-?\d[\w.-]*$|\d[\d.,:/-]*[a-z]{1,5}$|[^@\s]+@[^@\s]+\.[a-z]{2,}$|\[?redacted",
    re.IGNORECASE,
)
_AROUND: Final = (50, 80)
"""Characters before and after the word that are looked through, within its sentence."""
_MOST_WORDS: Final = 64
"""Such words that are looked at in one text."""


def _near(text: str) -> list[Finding]:
    """Made-up tokens in the same sentence as a word for a password, and numbers beside one for a code."""
    found = []
    for kind in _NEAR.hits(text):
        for match in islice(_NEAR.matches(kind, text), _MOST_WORDS):
            start, end = span(match, "v")
            before, after = text[max(0, start - _AROUND[0]) : start], text[end : end + _AROUND[1]]
            first = max((stop.end() for stop in _SENTENCE.finditer(before)), default=0)
            stop = _SENTENCE.search(after)
            for piece, offset in (
                (before[first:], start - len(before) + first),
                (after[: stop.end() if stop else None], end),
            ):
                for token in _TOKEN.finditer(piece):
                    value = token[0].rstrip(".:?…")
                    if _is_made_up(value) if kind == "password" else _is_number(value):
                        found.append(Finding(kind, offset + token.start(), offset + token.start() + len(value)))
    return found


def _is_made_up(value: str) -> bool:
    inner = value.rstrip("!")
    has_both = any(character.isdigit() for character in inner) and any(character.isalpha() for character in inner)
    is_other = _NAMED.match(value) or _TIME_OR_PRICE.match(value) or _NOT_A_VALUE.match(value) or "://" in value
    return len(inner) >= 6 and (has_both or re.search(r"\w[!@#$%^&*+=~|]\w", inner) is not None) and not is_other


def _is_number(value: str) -> bool:
    return _NUMBER.match(value) is not None and not _YEAR.match(value)


def _after_code(match: Any) -> Span | None:
    return None if (match["p"] or "").strip(" -").casefold() in _OTHER_CODES else span(match, "v")


def _mixed(match: Any) -> Span | None:
    """A value that looks made up wherever it stands: digits among letters, or a symbol that words do not have."""
    value = match["v"].rstrip(".:?…)")
    inner = value.rstrip("!")
    is_mixed = any(character.isdigit() for character in inner) and any(character.isalpha() for character in inner)
    is_marked = re.search(r"[!@#$%^&*+=~|\\]", inner) is not None
    start = span(match, "v")[0]
    is_other = _NOT_A_VALUE.match(value) or _TIME_OR_PRICE.match(value) or _CHAIN.match(value) or "://" in value
    is_secret = (is_mixed or is_marked) and not is_other and not value.startswith(("[", "("))
    return (start, start + len(value)) if is_secret else None


_JUDGES: Final[Mapping[str, Callable[[Any], Span | None]]] = {
    "vendor/card number": _valid(_luhn),
    "context/password": _password,
    "context/key": _key,
    "context/code": _code,
    "context/before": _before,
    "context/place": _before,
    "context/spoken": _spoken,
    "context/changed": _marked,
    "context/typed": _marked,
    "context/pair": _marked,
    "context/digits": _whole,
    "context/after code": _after_code,
    "context/loose": _mixed,
    "context/as password": _mixed,
    "context/admin": _mixed,
    "context/credentials": _mixed,
    "personal/iban": _valid(_iban),
    "personal/ip address": _valid(_ip),
    "personal/ipv6 address": _valid(_ip),
    "personal/social security number": _valid(_ssn),
    "personal/phone": _valid(_phone),
}
_KINDS: Final[Mapping[str, str]] = {
    "context/bare": "code",
    "context/digits": "code",
    "context/after code": "code",
    "context/lock": "code",
    "context/press": "code",
    "context/place": "code",
    "context/loose": "password",
    "context/as password": "password",
    "context/element": "password",
    "context/shell": "password",
    "context/admin": "password",
    "context/credentials": "password",
    "context/before": "code",
    "context/spoken": "password",
    "context/changed": "password",
    "context/typed": "password",
    "context/pair": "password",
    "context/curl": "password",
}
