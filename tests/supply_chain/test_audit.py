"""The audit against an advisory service of our own: what is unknown is never said to be known."""

import datetime
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from supply_chain.audit import Accepted, Advisory, Answer, Dependency, Summary, faults, main, read_accepted

Reply = Callable[[list[tuple[str, str]]], tuple[int, str]]


class Service:
    """Answers as OSV does: `known` are advisories of packages, or `answer` gives status and body of all."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self.answer: Reply | None = None
        self.asked: list[tuple[str, str]] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                queries = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
                service.asked = [(query["package"]["name"], query["version"]) for query in queries]
                found = [{"vulns": [{"id": i} for i in service.known.get(name, ())]} for name, _ in service.asked]
                self.reply(
                    *(service.answer(service.asked) if service.answer else (200, json.dumps({"results": found})))
                )

            def do_GET(self) -> None:
                advisory = {"id": self.path.rpartition("/")[2], "modified": "2026-01-01T00:00:00Z", "summary": "bad"}
                self.reply(200, json.dumps(advisory))

            def reply(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Done(NamedTuple):
    """How the audit ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Audit = Callable[..., Done]


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Audit:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")  # it waits between them
    return lambda url, *options: Done(main(["--service", url, *options]), *capsys.readouterr())


ACCEPTED = {one.package: (one.id,) for one in read_accepted()}


def test_what_is_accepted_passes_and_every_locked_package_was_asked_for(audit: Audit, service: Service) -> None:
    service.known = ACCEPTED
    done = audit(service.url)
    assert done.returncode == 0, done.stderr
    assert "all accepted" in done.stdout
    packages = {name for name, _ in service.asked}
    assert {"tensorflow", "apache-airflow", "nvidia-cudnn-cu12", "pytest"} <= packages, "extras and groups are packages"


def test_what_is_not_accepted_fails_with_its_name(audit: Audit, service: Service) -> None:
    service.known = ACCEPTED | {"numpy": ("GHSA-aaaa-bbbb-cccc",)}
    done = audit(service.url)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if "GHSA-aaaa" in line)
    assert line.startswith("audit: numpy 1.") and "not fixed in any version" in line
    assert "supply_chain/accepted.yaml" in done.stderr


def test_an_acceptance_is_of_one_package(audit: Audit, service: Service) -> None:
    service.known = ACCEPTED | {"numpy": ACCEPTED["pyarrow"]}
    assert audit(service.url).returncode == 1


@pytest.mark.parametrize(
    "answer", [(200, '{"results": []}'), (200, json.dumps({"results": [{}] * 400}))], ids=["no result", "nothing known"]
)
def test_a_service_that_knows_nothing_does_not_pass(audit: Audit, service: Service, answer: tuple[int, str]) -> None:
    service.answer = lambda _: answer
    done = audit(service.url)
    assert done.returncode == 1
    assert done.stderr.count("the service knows no such advisory") == len(ACCEPTED)


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        ((500, "{}"), ()),
        ((403, "{}"), ()),
        ((200, "<html>log in</html>"), ("--if-reachable",)),
        ((200, "{}"), ()),
    ],
    ids=["server error", "forbidden", "a login page", "no results"],
)
def test_a_service_that_does_not_answer_right_is_no_pass(
    audit: Audit, service: Service, answer: tuple[int, str], options: tuple[str, ...]
) -> None:
    service.answer = lambda _: answer
    done = audit(service.url, *options)
    assert done.returncode == 2
    assert "could not ask" in done.stderr and "known vuln" not in (done.stdout + done.stderr).lower()


def test_a_service_out_of_reach_fails_or_is_said_in_a_line(audit: Audit) -> None:
    nobody = "http://127.0.0.1:9/"
    done = audit(nobody)
    assert done.returncode == 2 and "could not ask" in done.stderr
    done = audit(nobody, "--if-reachable")
    assert done.returncode == 0 and done.stdout.startswith("audit: not done") and done.stdout.count("\n") == 1


def test_acceptances_are_looked_at_again() -> None:
    answer = Answer(Summary(1), [Advisory(Dependency("a", "1"), "X-1", ["CVE-1"])])
    day = datetime.date(2026, 12, 1)
    accepted = Accepted("CVE-1", "a", "nobody can call it from outside", day)
    assert not faults(answer, [accepted], day - datetime.timedelta(days=1))
    (line,) = faults(answer, [accepted], day)
    assert "was accepted until 2026-12-01" in line


def test_an_acceptance_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="say why"):
        Accepted("CVE-1", "a", "fine", datetime.date(2026, 12, 1))
    assert all(one.look_again > datetime.date(2026, 11, 30) for one in read_accepted())
