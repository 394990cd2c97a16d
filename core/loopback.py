"""Connections within this machine, which a proxy configured for the internet cannot make."""

from __future__ import annotations

import ipaddress
import os

_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(address: str) -> bool:
    """Whether `address`, host:port, is reachable from this machine only."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bypass_proxy() -> None:
    """Makes this process and its children connect to this machine directly, whatever `http_proxy` and the like say.

    Beam's workers and job servers and storage emulators need it. If `no_grpc_proxy` is set, gRPC ignores the other
    variables; Python prefers `no_proxy` to `NO_PROXY`.
    """
    lists = {name: os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy")}
    lists["no_proxy"] = lists["NO_PROXY"] = lists["no_proxy"] or lists["NO_PROXY"]
    if "no_grpc_proxy" not in os.environ:
        del lists["no_grpc_proxy"]
    for name, given in lists.items():
        hosts = [host for host in given.split(",") if host.strip()]
        os.environ[name] = ",".join([*hosts, *(name for name in _NAMES if name not in hosts)])
