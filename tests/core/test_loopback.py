import os
from urllib.request import proxy_bypass_environment

import pytest

from core.loopback import bypass_proxy, is_loopback


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:8500", True),
        ("127.1.2.3:1", True),
        ("[::1]:8500", True),
        ("localhost:8500", True),
        ("localhost.example.com:8500", False),
        ("10.0.0.7:8500", False),
        ("models.example.com:8500", False),
    ],
)
def test_which_addresses_are_this_machines(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY", "no_grpc_proxy"])
def test_what_bypassed_the_proxy_before_still_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.setenv(variable, "")  # is restored after the test
        monkeypatch.delenv(variable)
    monkeypatch.setenv(name, "intranet.example.com")
    bypass_proxy()
    once = dict(os.environ)
    bypass_proxy()
    assert dict(os.environ) == once
    assert os.environ[name] == "intranet.example.com,localhost,127.0.0.1,::1"
    assert proxy_bypass_environment("127.0.0.1:8099") and proxy_bypass_environment("localhost:8099")
    assert not proxy_bypass_environment("models.example.com:8500")
