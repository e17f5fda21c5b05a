"""Alert sinks, each against a local server that checks what the real service would; delivery, retries, bounds."""

from __future__ import annotations

import itertools
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from otel_sentry import counters, process, settings
from otel_sentry.business.sinks import Alert, Refused, TryAgain, lanes, mail, pagerduty, slack, webhook
from otel_sentry.settings import Settings
from tests.support.sinks import certificate, http_server, pagerduty_schema, slack_schema, smtp_server

KEY = "R0UT1NGK" * 4
ALERT = Alert(
    id="a" * 32, type="payment_failed", severity="critical", message="card refused", at=1_750_000_000.5,
    environment="production", service="shop", server="web-1", release="1.2", context={"amount": 3, "n": {"a": [1]}},
    user_id="7", operation="checkout", trace_id="b" * 32, suppressed=2,
    event_url="https://acme.sentry.io/issues/?query=" + "a" * 32, trace_url="https://acme.sentry.io/t/",
)  # fmt: skip
WILD = '<!channel> & "quotes" \ud800 ' + "x" * 9000
HUGE = Alert(
    id="a" * 32, type=WILD, severity="info", message=WILD * 3, at=1.0, environment=WILD, service="", server="",
    context={f"key {number}": WILD for number in range(100)}, operation=WILD,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    lanes.reset()
    monkeypatch.setattr(lanes, "FIRST_PAUSE_S", 0.02)
    yield
    lanes.reset()


def load(**wanted: Any) -> Settings:
    return settings.load({}, environment="production", server_name="web-1", **wanted)


def use(monkeypatch: pytest.MonkeyPatch, **sinks: lanes.Sink) -> Settings:
    """Settings that name *sinks* for critical alerts, and nothing but them installed."""
    monkeypatch.setattr(lanes, "find", lambda name: sinks[name])
    return load(alert_sinks="critical=" + "+".join(sinks))


@pytest.mark.parametrize("alert", [ALERT, HUGE], ids=["usual", "huge"])
def test_slack(alert: Alert) -> None:
    """Slack's webhook takes it, whatever its size and characters; nothing in it is a mention."""
    with http_server(slack_schema) as server:
        slack.send(alert, load(slack_webhook_url=f"{server.url}/services/T0/B0/s3cret"))
    (got,) = server.got
    assert got.path == "/services/T0/B0/s3cret" and got.headers["Content-Type"] == "application/json"
    assert "!channel" not in got.document["text"].replace("&lt;!channel&gt;", "")


def test_what_slack_shows() -> None:
    """Severity and type above, the message, what is known, the context, and buttons to Sentry."""
    header, message, facts, context, buttons = slack.message(ALERT)["blocks"]
    assert header["text"]["text"] == "🔴 Critical: payment_failed"
    assert message["text"]["text"] == "card refused"
    assert [field["text"].split("\n") for field in facts["fields"]] == [
        ["*Environment*", "production"], ["*Service*", "shop"], ["*Release*", "1.2"], ["*Operation*", "checkout"],
        ["*User*", "7"], ["*Left out before*", "2"],
    ]  # fmt: skip
    assert context["text"]["text"] == '```{"amount":3,"n":{"a":[1]}}```'
    assert [button["url"] for button in buttons["elements"]] == [ALERT.event_url, ALERT.trace_url]


@pytest.mark.parametrize("alert", [ALERT, HUGE], ids=["usual", "huge"])
def test_pagerduty(alert: Alert) -> None:
    """PagerDuty's Events API v2 takes it; the dedup key is the fingerprint."""
    with http_server(pagerduty_schema) as server:
        server.answers = [(202, {})]
        pagerduty.send(alert, load(pagerduty_routing_key=KEY, pagerduty_url=f"{server.url}/v2/enqueue"))
    (got,) = server.got
    assert got.document["dedup_key"].startswith("business-alert:" + alert.type[:20])
    if alert is ALERT:
        payload = got.document["payload"]
        assert (payload["summary"], payload["severity"]) == ("[critical] payment_failed: card refused", "critical")
        assert payload["timestamp"] == "2025-06-15T15:06:40.500+00:00"
        assert payload["custom_details"]["left_out_before"] == "2" and payload["custom_details"]["amount"] == 3
        assert got.document["client_url"] == ALERT.event_url


def test_pagerduty_resolves() -> None:
    """A resolved alert closes the incident of its type: keys, and nothing else."""
    over = Alert("c" * 32, "payment_failed", "info", "", 1.0, "production", "shop", "web-1", resolved=True)
    assert pagerduty.event(over, KEY) == {
        "routing_key": KEY, "event_action": "resolve", "dedup_key": pagerduty.event(ALERT, KEY)["dedup_key"],
    }  # fmt: skip


def test_webhook() -> None:
    """One JSON document whose fields are always there; user and password in the URL are basic authentication."""
    with http_server() as server:
        url = server.url.replace("//", "//bob:p%40ss@")
        webhook.send(ALERT, load(alert_webhook_url=f"{url}/hook?x=1"))
        webhook.send(HUGE, load(alert_webhook_url=url))
    first, second = server.got
    assert first.path == "/hook?x=1" and first.headers["Authorization"] == "Basic Ym9iOnBAc3M="
    assert set(first.document) == set(second.document)
    assert first.document["time"] == "2025-06-15T15:06:40.500+00:00"
    assert (first.document["action"], first.document["context"]) == ("trigger", {"amount": 3, "n": {"a": [1]}})


def test_mail() -> None:
    """SMTP without TLS, when that is asked for: subject, sender, every recipient, the facts and links in the text."""
    with smtp_server() as server:
        mail.send(
            ALERT,
            load(
                smtp_url=f"smtp://127.0.0.1:{server.port}", smtp_starttls=False,
                alert_email_to="ops@example.com, boss@example.com", alert_email_from="shop@example.com",
            ),
        )  # fmt: skip
    ((sender, to, letter, secure),) = server.letters
    assert "shop@example.com" in sender and to == ["ops@example.com", "boss@example.com"] and not secure
    assert letter["Subject"] == "[critical] payment_failed: card refused"
    assert letter["Auto-Submitted"] == "auto-generated"
    text = letter.get_content()
    assert "Operation: checkout" in text and ALERT.event_url in text and '"amount": 3' in text


def test_mail_of_any_text() -> None:
    """Newlines in a subject and characters of no encoding are no fault."""
    odd = Alert("a" * 32, "a\r\nBcc: x@example.com", "info", "\ud800 ü\n.\n..", 1.0, "p", "s", "w")
    with smtp_server() as server:
        mail.send(
            odd, load(smtp_url=f"smtp://127.0.0.1:{server.port}", smtp_starttls="0", alert_email_to="o@example.com")
        )
    ((_, to, letter, _),) = server.letters
    assert to == ["o@example.com"] and letter["Bcc"] is None and "Bcc: x@example.com" in letter["Subject"]


def test_mail_over_starttls(tmp_path: pathlib.Path) -> None:
    """By default nothing is sent before STARTTLS, with a trusted certificate; then login and letter are encrypted."""
    cert, context = certificate(tmp_path)
    with smtp_server(context) as server:
        url = f"smtp://bob:p%40ss@127.0.0.1:{server.port}"
        with pytest.raises(Refused, match=r"^the certificate of 127.0.0.1 is not trusted$"):
            mail.send(ALERT, load(smtp_url=url, alert_email_to="ops@example.com"))
        mail.send(ALERT, load(smtp_url=url, alert_email_to="ops@example.com", ca_certs=str(cert)))
    assert server.logins == [("\0bob\0p@ss", True)]
    assert [secure for *_, secure in server.letters] == [True]


@pytest.mark.parametrize(
    ("refuse", "kind"),
    [
        ({"MAIL": [451]}, TryAgain),
        ({"RCPT": [550]}, Refused),
        ({"RCPT": [450]}, TryAgain),
        ({"EHLO": [421], "HELO": [421]}, TryAgain),
    ],
)
def test_mail_refused(refuse: dict[str, list[int]], kind: type[Exception]) -> None:
    """4xx is tried again, 5xx is not (RFC 5321), and no address is in the words for it."""
    with smtp_server() as server:
        server.refuse = refuse
        with pytest.raises(kind) as caught:
            mail.send(
                ALERT,
                load(smtp_url=f"smtp://127.0.0.1:{server.port}", smtp_starttls="0", alert_email_to="o@example.com"),
            )
    assert "example.com" not in str(caught.value)


def test_mail_without_starttls_on_offer() -> None:
    """A server that can't encrypt gets nothing, and the words say which setting allows it."""
    with smtp_server() as server:
        with pytest.raises(Refused, match="OTEL_SENTRY_SMTP_STARTTLS=0"):
            mail.send(ALERT, load(smtp_url=f"smtp://127.0.0.1:{server.port}", alert_email_to="o@example.com"))
    assert server.letters == []


@pytest.mark.parametrize(
    ("send", "wanted"),
    [
        (slack.send, {}),
        (slack.send, {"slack_webhook_url": "https://hooks.example.test:s3cret/x"}),
        (webhook.send, {"alert_webhook_url": "ftp://s3cret"}),
        (webhook.send, {"alert_webhook_url": "https://x/s3cret-ü"}),
        (pagerduty.send, {}),
        (mail.send, {"smtp_url": "smtp://bob:s3cret@host:port", "alert_email_to": "a@example.com"}),
        (mail.send, {"smtp_url": "mailto:s3cret@host", "alert_email_to": "a@example.com"}),
        (mail.send, {"smtp_url": "smtp://host"}),
    ],
)
def test_wrong_settings(send: lanes.Sink, wanted: dict[str, str]) -> None:
    """A missing or unusable setting is named, its value never."""
    with pytest.raises(Refused, match="OTEL_SENTRY_") as caught:
        send(ALERT, load(**wanted))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "headers", "after"),
    [
        (429, {"Retry-After": "7"}, 7.0), (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0), (500, {}, None),
        (503, {"Retry-After": "soon"}, None),
    ],
)  # fmt: skip
def test_try_again(status: int, headers: dict[str, str], after: float | None) -> None:
    """429 and 5xx are tried again, when the server says."""
    with http_server() as server:
        server.answers = [(status, headers)]
        with pytest.raises(TryAgain, match=f"^127.0.0.1 answered {status}$") as caught:
            webhook.send(ALERT, load(alert_webhook_url=f"{server.url}/s3cret"))
    assert caught.value.after_s == after


@pytest.mark.parametrize("status", [302, 400, 403, 404, 410])
def test_no_second_try(status: int) -> None:
    """A redirect is not followed (the secret would go along), and a refusal is final."""
    with http_server() as server:
        server.answers = [(status, {"Location": server.url})]
        with pytest.raises(Refused, match=f"^127.0.0.1 answered {status}$"):
            webhook.send(ALERT, load(alert_webhook_url=f"{server.url}/s3cret"))
    assert len(server.got) == 1


def test_delivery_by_severity() -> None:
    """OTEL_SENTRY_ALERT_SINKS: by severity, under any of its names; a sink without one is for all."""
    found = load(alert_sinks="critical=pagerduty+slack, high=slack,medium=email, webhook")
    assert lanes.chosen(found, "critical") == ["pagerduty", "slack", "webhook"]
    assert lanes.chosen(found, "error") == ["slack", "webhook"]
    assert lanes.chosen(found, "warning") == ["email", "webhook"]
    assert lanes.chosen(found, "info") == ["webhook"]
    assert "expected severities" in load(alert_sinks="urgent=slack").problems[0]


def test_the_sinks_are_entry_points() -> None:
    """The four sinks are found under their names (after a change of pyproject.toml: reinstall)."""
    assert [lanes.find(name) for name in ("slack", "email", "pagerduty", "webhook")] == [
        slack.send, mail.send, pagerduty.send, webhook.send,
    ]  # fmt: skip


def test_a_sink_of_ones_own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that an installed distribution names in the group `otel_sentry_alert_sinks` gets alerts."""
    (tmp_path / "shop_alerts.py").write_text("got = []\ndef send(alert, settings):\n    got.append(alert.title)\n")
    info = tmp_path / "shop_alerts-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-alerts\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[otel_sentry_alert_sinks]\nteams = shop_alerts:send\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lanes.deliver(ALERT, load(alert_sinks="teams"))
    assert lanes.flush(2)
    assert sys.modules["shop_alerts"].got == ["[critical] payment_failed: card refused"]


def test_retries_with_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is twice the one before; the alert arrives in the end, and none after it is overtaken."""
    times: list[float] = []

    def send(alert: Alert, _: Settings) -> None:
        times.append(time.monotonic())
        if len(times) < 4:
            raise TryAgain("busy") if len(times) % 2 else ConnectionResetError("s3cret")

    lanes.deliver(ALERT, use(monkeypatch, one=send))
    deadline = time.monotonic() + 3
    while len(times) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert [round(pause / 0.02) >= wanted for pause, wanted in zip(pauses, (1, 2, 4), strict=True)] == [True] * 3
    assert lanes.flush(1) and counters.snapshot() == {}


def test_retry_after_is_obeyed() -> None:
    """A 429 with Retry-After: the next try comes no earlier than it says."""
    with http_server(slack_schema) as server:
        server.answers = [(429, {"Retry-After": "1"})]
        lanes._lanes["slack"] = lane = lanes._Lane("slack")
        lane._sink = slack.send
        lanes.deliver(ALERT, load(alert_sinks="slack", slack_webhook_url=f"{server.url}/services/T0/B0/s3cret"))
        deadline = time.monotonic() + 4
        while len(server.got) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    first, second = server.got
    assert 1.0 <= second.at - first.at < 2.0


@pytest.mark.parametrize(
    ("failure", "words", "tries"),
    [
        (Refused("it answered 404"), "it answered 404", 1),
        (RuntimeError("https://x/s3cret"), "RuntimeError", 1),
        (TryAgain("later", 1000), "later", 1),
        (ConnectionError("https://x/s3cret"), "ConnectionError", 3),
    ],
)
def test_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Exception, words: str, tries: int
) -> None:
    """What is final, or would take too long, is given up: one line without a secret, and counted."""
    monkeypatch.setattr(lanes, "PATIENCE_S", 0.1)
    tried: list[int] = []

    def send(alert: Alert, _: Settings) -> None:
        tried.append(1)
        raise failure

    lanes.deliver(ALERT, use(monkeypatch, one=send))
    deadline = time.monotonic() + 2
    while not counters.snapshot() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert counters.snapshot() == {("network_error", "business"): 1}
    assert lanes.flush(1) and len(tried) == tries
    assert capsys.readouterr().err == f"otel-sentry: an alert did not reach the sink one: {words}\n"


def test_unknown_sink(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that nobody has installed is said, with the names there are."""
    lanes.deliver(ALERT, load(alert_sinks="pigeon"))
    assert lanes.flush(2)
    assert "the sink pigeon: there is none; installed: " in capsys.readouterr().err


def test_a_hanging_sink_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sink has its own queue: the other gets its alerts at once, and 100 wait for the one that hangs."""
    arrived: list[str] = []

    def hang(alert: Alert, _: Settings) -> None:
        time.sleep(0.8)

    wanted = use(monkeypatch, slow=hang, quick=lambda alert, _: arrived.append(alert.id))
    began = time.monotonic()
    for _ in range(150):
        lanes.deliver(ALERT, wanted)
        while len(arrived) < 150 and lanes._lanes["quick"].waiting and time.monotonic() - began < 0.7:
            time.sleep(0.001)
    assert len(arrived) == 150 and time.monotonic() - began < 0.7
    assert counters.snapshot() == {("queue_overflow", "business"): 50}
    assert lanes.flush(0.05) is False


def test_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """At exit nobody waits for a second try: the budget is kept, and what is left counts as lost."""
    monkeypatch.setattr(lanes, "FIRST_PAUSE_S", 60.0)

    def send(alert: Alert, _: Settings) -> None:
        raise TryAgain("busy")

    wanted = use(monkeypatch, one=send)
    for _ in range(3):
        lanes.deliver(ALERT, wanted)
    began = time.monotonic()
    lanes.close(1.0)
    assert time.monotonic() - began < 0.5
    assert counters.snapshot() == {("network_error", "business"): 3}


@pytest.mark.parametrize("parked", [1, 0])
def test_without_threads(monkeypatch: pytest.MonkeyPatch, parked: int) -> None:
    """Where no thread can be started any more, one that was kept for the exit delivers, else the business worker's."""
    arrived: list[int] = []

    def no_thread(*args: Any) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(process, "_parked", [process._Parked() for _ in range(parked)])
    monkeypatch.setattr(process._thread, "start_new_thread", no_thread)
    lanes.deliver(ALERT, use(monkeypatch, one=lambda alert, _: arrived.append(threading.get_ident())))
    assert lanes.flush(5) and len(arrived) == 1
    assert (arrived[0] == threading.get_ident()) is not bool(parked)
