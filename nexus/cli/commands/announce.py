"""``nexus-proxy announce``: publishes a server of this machine by mDNS, which engines do not do themselves."""

import asyncio
import signal

import click

from nexus.errors import StartError
from nexus.fleet.discovery.mdns.announcer import Announcement, announcing, host_name, own_addresses
from nexus.fleet.discovery.tcp_check import accepts_connections
from nexus.fleet.fetching import Fetcher, FetchError, Target
from nexus.fleet.kinds import KINDS
from nexus.fleet.probing.detection import detect

DETECTION_S = 5.0
LOOPBACK = ("127.0.0.1", "::1")


@click.command("announce")
@click.option("-p", "--port", required=True, type=click.IntRange(1, 65535), help="The port that the server listens on.")
@click.option("--kind", type=click.Choice(sorted(KINDS)), help="Its kind; else it is detected.")
@click.option("--name", help="The name to announce; else the name of this machine.")
@click.option("--path", default="", metavar="PATH", help="The base path of its API, if it has one.")
@click.option("--tls", "is_tls", is_flag=True, help="It speaks HTTPS.")
def command(*, port: int, kind: str | None, name: str | None, path: str, is_tls: bool) -> None:
    """Announce a server of this machine on the local network until the command is stopped.

    Every proxy on the network that discovers servers finds it, and uses it once it is approved there:
    nexus-proxy backends approve NAME
    """
    asyncio.run(_announce(port, kind, name or host_name(), path=path.rstrip("/"), is_tls=is_tls))


async def _announce(port: int, kind: str | None, name: str, *, path: str, is_tls: bool) -> None:
    kind = kind or await _detected_kind(await _url_of(port, path, is_tls=is_tls))
    announcement = Announcement(name=name, port=port, kind=kind, path=path, is_tls=is_tls)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with announcing(announcement) as label:
        click.echo(f"announcing '{label}', {kind} on port {port}, as {announcement.service_type.rstrip('.')}")
        await _warn_of_loopback(port)
        await stop.wait()
    click.echo(f"'{label}' withdrawn")


async def _url_of(port: int, path: str, *, is_tls: bool) -> str:
    """Return the URL of the server on *port*, at an address of this machine that accepts connections."""
    accepting = [host for host in (*LOOPBACK, *own_addresses()) if await accepts_connections(host, port)]
    host = accepting[0] if accepting else LOOPBACK[0]
    authority = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{authority}:{port}{path}"


async def _detected_kind(url: str) -> str:
    """Return the kind of the server at *url*. :raises StartError: it does not answer, or its kind is unknown."""
    async with Fetcher(timeout_s=DETECTION_S) as fetcher:
        try:
            detected = await detect(fetcher, Target(url))
        except FetchError as exc:
            raise StartError(f"no server answers at {url}: {exc}; --kind announces it all the same") from exc
    if detected.kind is None:
        raise StartError(f"the server at {url} is of no known kind (HTTP {detected.status}); say which with --kind")
    return detected.kind


async def _warn_of_loopback(port: int) -> None:
    """Warn when other machines cannot connect: by default, most engines listen on loopback only."""
    addresses = own_addresses()
    if not addresses:
        click.echo("nexus-proxy: warning: this machine has no address that others can reach", err=True)
    elif not any([await accepts_connections(address, port) for address in addresses]) and any(
        [await accepts_connections(address, port) for address in LOOPBACK]
    ):
        click.echo(
            f"nexus-proxy: warning: the server accepts connections of this machine only, not at {', '.join(addresses)};"
            " start it with OLLAMA_HOST=0.0.0.0, --host 0.0.0.0 or the like",
            err=True,
        )
