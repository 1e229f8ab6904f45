"""Builds the upstream settings of a backend from its configuration."""

import ssl
from base64 import b64encode
from typing import Final
from urllib.parse import quote_plus, urlsplit

from nexus.config.faults import Fault, KeyPath
from nexus.config.quoting import shown_path
from nexus.config.schema import BackendConfig
from nexus.config.secrets import Credentials, Secret
from nexus.dialing.tls import trusting_context, unchecked_context
from nexus.dialing.tunnel import Proxy
from nexus.dialing.upstream_settings import UpstreamSettings

AUTHORIZATION: Final = "authorization"
READABLE: Final = "let the user that Nexus runs as read it"


def settings_of(config: BackendConfig, key: Secret | None, credentials: Credentials, path: KeyPath) -> UpstreamSettings:
    """Return the settings of the backend in the table at *path*. :raises Fault: a key is wrong.

    :param path: empty for a table that is not in the configuration file.
    """
    headers = {name: value.reveal() for name, value in credentials.headers.items()}
    secrets = [secret.reveal() for secret in credentials.secrets]
    # A backend may echo the query, in which secrets are encoded.
    secrets += [encoded for secret in secrets if (encoded := quote_plus(secret)) != secret]
    if (login := credentials.basic_auth) is not None:
        if AUTHORIZATION in map(str.lower, headers):
            raise Fault((*path, "headers"), "basic_auth or the URL sets 'authorization' too", "keep one of them")
        encoded = b64encode(login.reveal().encode()).decode()
        headers["Authorization"] = f"Basic {encoded}"
        secrets += [encoded, login.reveal().partition(":")[2]]
    return UpstreamSettings(
        key=None if key is None else key.reveal(),
        headers=headers,
        query={name: value.reveal() for name, value in credentials.query.items()},
        secrets=tuple(secret for secret in secrets if secret),
        path_is_complete=config.path_is_complete,
        tls=tls_of(
            verify=config.tls_verify,
            ca_file=config.tls_ca_file,
            cert_file=config.tls_cert_file,
            key_file=config.tls_key_file,
            path=path,
        ),
        proxy=_proxy(credentials),
        is_from_file=bool(path),
    )


def _proxy(credentials: Credentials) -> Proxy | None:
    if credentials.https_proxy is None:
        return None
    parts, login = urlsplit(credentials.https_proxy), credentials.proxy_login
    return Proxy(parts.hostname or "", parts.port or 80, None if login is None else login.reveal())


def tls_of(
    *, verify: bool, ca_file: str | None, cert_file: str | None, key_file: str | None, path: KeyPath = ()
) -> ssl.SSLContext | None:
    """Return the TLS context for these keys of a backend; None: the shared one, which trusts the system's authorities.

    :raises Fault: a file cannot be used.
    """
    if cert_file is None and ca_file is None:
        return None if verify else trusting_context()
    context = _trusting(ca_file, path) if verify else unchecked_context()
    if cert_file is not None:
        _show_certificate(context, cert_file, key_file, path)
    return context


def _trusting(ca_file: str | None, path: KeyPath) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as exc:
        problem = _unusable(ca_file, exc, "it contains no certificate in PEM")
        raise Fault((*path, "tls_ca_file"), problem, "" if isinstance(exc, ssl.SSLError) else READABLE) from exc


def _show_certificate(context: ssl.SSLContext, cert: str, key: str | None, path: KeyPath) -> None:
    # Not in the shared context: other backends must not be shown this backend's certificate.
    for name, file in (("tls_cert_file", cert), ("tls_key_file", key)):
        try:
            if file is not None:
                with open(file, "rb"):  # noqa: PTH123 - tells which of the two files cannot be read
                    pass
        except OSError as exc:
            raise Fault((*path, name), _unusable(file, exc, ""), READABLE) from exc
    try:
        # Without a password function OpenSSL would ask for the passphrase on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as exc:
        problem = _unusable(cert, exc, "no certificate with its key in PEM, or the key has a passphrase")
        hint = "openssl rsa -in KEY removes a passphrase" if key else "set tls_key_file if the key is in another file"
        raise Fault((*path, "tls_cert_file"), problem, hint) from exc


def _unusable(file: str | None, exc: Exception, otherwise: str) -> str:
    is_of_tls = isinstance(exc, ssl.SSLError)
    reason = otherwise if is_of_tls else getattr(exc, "strerror", None) or otherwise
    return f"{shown_path(file or '')} cannot be used: {reason}"
