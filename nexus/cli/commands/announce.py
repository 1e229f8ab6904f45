"""``nexus-proxy announce``: publishes a server of this machine by mDNS, because no engine announces itself."""

import asyncio
import signal

import click

from nexus.errors import StartError
from nexus.fleet.discovery.mdns.announcer import Announcement, announced, host_name, own_addresses
from nexus.fleet.discovery.tcp_check import answers
from nexus.fleet.fetching import Fetcher, FetchError, Target
from nexus.fleet.kinds import KINDS
from nexus.fleet.probing.detection import detect

DETECTION_S = 5.0
LOOPBACK = ("127.0.0.1", "::1")


@click.command("announce")
@click.option("-p", "--port", required=True, type=click.IntRange(1, 65535), help="The port that the server listens on.")
@click.option("--kind", type=click.Choice(sorted(KINDS)), help="What it is; else it is asked.")
@click.option("--name", help="The name to announce; else the name of this machine.")
@click.option("--path", default="", metavar="PATH", help="The base path of its API, if it has one.")
@click.option("--tls", "is_tls", is_flag=True, help="It speaks HTTPS.")
def command(*, port: int, kind: str | None, name: str | None, path: str, is_tls: bool) -> None:
    """Announce a server of this machine on the local network, until it is told to stop.

    Every proxy on the network that looks for servers finds it, and uses it once it is approved there:
    nexus-proxy backends approve NAME
    """
    asyncio.run(_announce(port, kind, name or host_name(), path=path.rstrip("/"), is_tls=is_tls))


async def _announce(port: int, kind: str | None, name: str, *, path: str, is_tls: bool) -> None:
    known = kind or await _asked(await _url_of(port, path, is_tls=is_tls))
    announcement = Announcement(name=name, port=port, kind=known, path=path, is_tls=is_tls)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with announced(announcement) as label:
        click.echo(f"announcing '{label}', {known} on port {port}, as {announcement.service_type.rstrip('.')}")
        await _warn_of_loopback(port)
        await stop.wait()
    click.echo(f"'{label}' withdrawn")


async def _url_of(port: int, path: str, *, is_tls: bool) -> str:
    """Return where the server on *port* is asked: at an address of this machine that accepts connections."""
    accepting = [host for host in (*LOOPBACK, *own_addresses()) if await answers(host, port)]
    host = accepting[0] if accepting else LOOPBACK[0]
    authority = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{authority}:{port}{path}"


async def _asked(url: str) -> str:
    """Return the kind of the server at *url*. :raises StartError: it does not answer, or is of no known kind."""
    async with Fetcher(timeout_s=DETECTION_S) as fetcher:
        try:
            shown = await detect(fetcher, Target(url))
        except FetchError as exc:
            raise StartError(f"no server answers at {url}: {exc}; --kind announces it all the same") from exc
    if shown.kind is None:
        raise StartError(f"the server at {url} is of no known kind (HTTP {shown.status}); say which with --kind")
    return shown.kind


async def _warn_of_loopback(port: int) -> None:
    """Say so when other machines cannot connect: most engines listen on loopback alone unless told otherwise."""
    addresses = own_addresses()
    if not addresses:
        click.echo("nexus-proxy: warning: this machine has no address that others can reach", err=True)
    elif not any([await answers(address, port) for address in addresses]) and any(
        [await answers(address, port) for address in LOOPBACK]
    ):
        click.echo(
            f"nexus-proxy: warning: the server accepts connections of this machine only, not at {', '.join(addresses)};"
            " start it with OLLAMA_HOST=0.0.0.0, --host 0.0.0.0 or the like",
            err=True,
        )
