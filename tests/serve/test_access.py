"""Which hosts the server answers to, and pages of which origins may send requests to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.serve.middleware import Access, is_loopback
from refusals import refused

from .conftest import Serve, image_of, number_in

KNOWN = Access(frozenset({"pose.example", "*.inside.example"}))
OPEN = Access(addresses=True)
ALL = Access(frozenset({"*"}))
LOOPBACK = Access()

HOSTS = [
    (LOOPBACK, "localhost", True),
    (LOOPBACK, "localhost:8000", True),
    (LOOPBACK, "LOCALHOST.:8000", True),
    (LOOPBACK, "pose.localhost", True),
    (LOOPBACK, "127.0.0.1:65535", True),
    (LOOPBACK, "127.9.9.9", True),
    (LOOPBACK, "[::1]:8000", True),
    (LOOPBACK, "[::ffff:127.0.0.1]", True),
    (LOOPBACK, "evil.example", False),
    (LOOPBACK, "localhost.evil.example", False),
    (LOOPBACK, "127.0.0.1.evil.example", False),
    (LOOPBACK, "notlocalhost", False),
    (LOOPBACK, "localhost@evil.example", False),
    (LOOPBACK, "evil.example@localhost", False),
    (LOOPBACK, "localhost:8000@evil.example", False),
    (LOOPBACK, "localhost:", False),
    (LOOPBACK, "localhost:80x", False),
    (LOOPBACK, "localhost..", False),
    (LOOPBACK, "localhost/", False),
    (LOOPBACK, "localhost, evil.example", False),
    (LOOPBACK, "", False),
    (LOOPBACK, "::1", False),
    (LOOPBACK, "[::1", False),
    (LOOPBACK, "[::1%lo]", False),
    (LOOPBACK, "127.1", False),
    (LOOPBACK, "2130706433", False),
    (LOOPBACK, "192.168.1.5:8000", False),
    (LOOPBACK, "0.0.0.0:8000", False),
    (OPEN, "192.168.1.5:8000", True),
    (OPEN, "[fe80::1]:8000", True),
    (OPEN, "localhost", True),
    (OPEN, "evil.example", False),
    (OPEN, "192.168.1.5.evil.example", False),
    (KNOWN, "pose.example", True),
    (KNOWN, "POSE.example.:443", True),
    (KNOWN, "a.inside.example", True),
    (KNOWN, "a.b.inside.example", True),
    (KNOWN, "inside.example", False),
    (KNOWN, "xpose.example", False),
    (KNOWN, "pose.example.evil", False),
    (KNOWN, "evilinside.example", False),
    (ALL, "evil.example", True),
    (ALL, "evil.example@localhost", False),
]


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/nothing"])
def test_dns_rebinding_is_refused(serve: Serve, path: str) -> None:
    response = serve().request("GET", path, headers={"host": "evil.example"})
    assert (response.status_code, response.json()["error"]) == (421, "wrong_host")
    assert "--allowed-host" in response.json()["reason"]


@pytest.mark.parametrize(("access", "host", "accepted"), HOSTS, ids=[h for _, h, _ in HOSTS])
def test_hosts(serve: Serve, access: Access, host: str, accepted: bool) -> None:
    response = serve(access=access).request("GET", "/healthz", headers={"host": host})
    assert response.status_code == (200 if accepted else 421), response.text


def test_one_host_only(serve: Serve) -> None:
    twice = [("host", "localhost"), ("host", "localhost")]
    assert serve().request("GET", "/healthz", headers=twice).status_code == 421


ALLOWED = Access(origins=frozenset({"https://app.example"}))
SITE = "sec-fetch-site"

ORIGINS = [
    ({}, True),  # a program
    ({"origin": "http://localhost:8000"}, True),
    ({"origin": "HTTP://LOCALHOST:8000"}, True),
    ({"origin": "https://app.example"}, True),
    ({"origin": "https://app.example", SITE: "cross-site"}, True),
    ({"origin": "https://localhost:8000", SITE: "same-origin"}, True),
    ({SITE: "none"}, True),
    ({"origin": "http://evil.example"}, False),
    ({"origin": "null"}, False),
    ({"origin": ""}, False),
    ({"origin": "http://localhost"}, False),
    ({"origin": "http://localhost:3000"}, False),  # of the same site, but of another program
    ({"origin": "http://localhost:3000", SITE: "same-site"}, False),
    ({"origin": "http://localhost:8000.evil.example"}, False),
    ({"origin": "http://localhost:8000@evil.example"}, False),
    ({"origin": "https://app.example.evil.example"}, False),
    ({"origin": "http://app.example"}, False),
    ({"origin": "ftp://localhost:8000"}, False),
    ({"origin": "http://localhost:8000/path"}, False),
    ({SITE: "cross-site"}, False),
    ({SITE: "odd"}, False),
]


@pytest.mark.parametrize(("headers", "accepted"), ORIGINS)
def test_origins(serve: Serve, headers: dict[str, str], accepted: bool) -> None:
    server = serve(access=ALLOWED)
    headers = {"host": "localhost:8000", **headers}
    files = {"image": image_of(3)}
    response = server.request("POST", "/v1/poses", headers=headers, files=files)
    if accepted:
        assert number_in(response.json()) == 3
    else:
        assert (response.status_code, response.json()["error"]) == (403, "other_site")
    # Anyone may link to the page.
    assert server.request("GET", "/", headers=headers).status_code == 200


def test_default_ports_may_be_left_out(serve: Serve) -> None:
    server = serve(access=KNOWN)
    for host in ("pose.example", "pose.example:443"):
        headers = {"host": host, "origin": "https://pose.example"}
        response = server.request("POST", "/v1/poses?boxes=[]", headers=headers, content=b"")
        assert response.status_code != 403, response.text


def test_allowed_origins_may_read_answers(serve: Serve) -> None:
    server = serve(access=ALLOWED, token="secret")
    preflight = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    response = server.request("OPTIONS", "/v1/poses", headers=preflight)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    right = {"origin": "https://app.example", "authorization": "bearer secret"}
    response = server.request("GET", "/v1/models", headers=right)
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    wrong = {**right, "origin": "https://evil.example"}
    response = server.request("GET", "/v1/models", headers=wrong)
    assert "access-control-allow-origin" not in response.headers


def test_without_allowed_origins_no_preflight_succeeds(serve: Serve) -> None:
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    response = serve().request("OPTIONS", "/v1/poses", headers=preflight)
    assert (response.status_code, response.json()["error"]) == (405, "not_allowed")
    assert not any(name.startswith("access-control") for name in response.headers)


@given(st.text(max_size=20))
def test_any_host_is_understood(text: str) -> None:
    headers = [(b"host", text.encode("utf-8", "replace"))]
    refusal = LOOPBACK.refusal({"method": "GET", "headers": headers})
    assert refusal is None or (refusal.status == 421 and len(refusal.reason) < 300)
    if refusal is None:
        assert is_loopback(text.lower().rpartition(":")[0] or text) or "localhost" in text.lower()


@pytest.mark.parametrize("host", ["", "http://a.example", "a.example:80", "a b", "*a", "a/*", "ä"])
def test_an_allowed_host_is_a_name(host: str) -> None:
    with refused("option-invalid", "--allowed-host"):
        Access.parse([host], [])


@pytest.mark.parametrize("origin", ["", "*", "null", "a.example", "https://a/b", "ftp://a"])
def test_an_allowed_origin_is_an_origin(origin: str) -> None:
    with refused("option-invalid", "--allowed-origin"):
        Access.parse([], [origin])
