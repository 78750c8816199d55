"""The certificate, the key and the authorities of [tls]."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vexfs_chroma._server._config import TlsSection

# The second where the key is even of another kind (EC, RSA).
_OF_ANOTHER_CERTIFICATE = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED", "KEY_TYPE_MISMATCH")


def context_of(tls: TlsSection) -> tuple[ssl.SSLContext | None, list[str]]:
    """What connections are encrypted by, and every reason why the files cannot be used.

    Without a certificate None.  A context with problems is not to be used.
    """
    if tls.certificate is None or tls.key is None:
        return None, []
    problems = [
        problem
        for name, file in (("certificate", tls.certificate), ("client_ca", tls.client_ca))
        if file is not None and (problem := _certificate_problem(name, file))
    ]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if problem := _unreadable("key", tls.key):
        problems.append(problem)
    elif not any(problem.startswith("[tls] certificate") for problem in problems):
        problems += _key_problems(context, tls.certificate, tls.key)
    if tls.client_ca is not None and not problems:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context, problems


def _unreadable(name: str, file: str) -> str | None:
    """Why a file cannot be read."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123  (as ssl opens it)
            opened.read(1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"[tls] {name} = {file!r} cannot be read: {reason}"
    return None


def _certificate_problem(name: str, file: str) -> str | None:
    """Why there is no certificate in a file."""
    if problem := _unreadable(name, file):
        return problem
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except ssl.SSLError:
        return f"[tls] {name} = {file!r} has no certificate in PEM format"
    return None


class _EncryptedError(ValueError):
    """A key cannot be used without a password."""


def _no_password() -> str:
    # Without this, OpenSSL would ask at the terminal, or wait for one.
    raise _EncryptedError


def _key_problems(context: ssl.SSLContext, certificate: str, key: str) -> list[str]:
    """Have the context use certificate and key; why it cannot."""
    where = f"[tls] key = {key!r}"
    try:
        context.load_cert_chain(certificate, key, _no_password)
    except _EncryptedError:
        return [f"{where} has a password, which a server cannot ask for: `openssl pkey` removes it"]
    except ssl.SSLError as error:
        if error.reason not in _OF_ANOTHER_CERTIFICATE:
            return [f"{where} has no private key in PEM format"]
        return [f"{where} does not belong to the first entry of certificate = {certificate!r}"]
    return []
