"""Who may do what: tokens and passwords, roles, tenants and databases.

The server keeps hashes alone.  A token is 32 random bytes, so one SHA-256 of it cannot be reversed
by trying; a password is chosen by a human and hashed by scrypt (RFC 7914; n=2^14, r=8, p=1), which
takes some 50 ms, so a password that was right is remembered by a keyed hash for as long as the
process lives.  Every comparison takes the same time whatever is wrong, and all entries are looked
at, whichever fits.

    role    may
    read    what changes nothing: get, query, search, count, list, describe
    write   and change records and collections
    admin   and make and delete databases and tenants, and reset

A credential may be limited to one tenant and to some of its databases.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import threading
from typing import TYPE_CHECKING, Literal

import msgspec

from vexfs_chroma._server._errors import HttpError, busy

if TYPE_CHECKING:
    from collections.abc import Sequence

Role = Literal["read", "write", "admin"]
ROLES: dict[str, int] = {"read": 1, "write": 2, "admin": 3}

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1
_REMEMBERED_MOST = 1024


class Principal(msgspec.Struct, frozen=True):
    """Somebody who may do something."""

    name: str
    role: Role = "read"
    tenant: str = "*"
    """The only tenant; "*" for every one."""
    databases: tuple[str, ...] = ("*",)
    """The only databases; ("*",) for every one."""

    def may(self, role: int) -> bool:
        """Whether it has at least this role."""
        return ROLES[self.role] >= role

    def reaches(self, tenant: str, database: str | None) -> bool:
        """Whether its scope has the tenant, and the database if one is named."""
        if self.tenant not in ("*", tenant):
            return False
        return database is None or self.databases == ("*",) or database in self.databases

    @property
    def is_limited(self) -> bool:
        """Whether there is anything that it does not reach."""
        return self.tenant != "*" or self.databases != ("*",)


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of [[auth.tokens]] or [[auth.users]]."""

    name: str
    hash: str
    role: Role = "read"
    tenant: str = "*"
    databases: tuple[str, ...] = ("*",)

    @property
    def principal(self) -> Principal:
        """Whom it makes."""
        return Principal(self.name, self.role, self.tenant, self.databases)


def new_token() -> tuple[str, str]:
    """A random token, and its hash for the configuration."""
    token = secrets.token_urlsafe(32)
    return token, hash_token(token)


def hash_token(token: str) -> str:
    """The hash of a random token."""
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def hash_password(password: str, salt: bytes | None = None) -> str:
    """The hash of a password, with a random salt."""
    salt = os.urandom(16) if salt is None else salt
    return f"scrypt:{salt.hex()}:{_scrypt(password, salt).hex()}"


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, dklen=32
    )


def check_hash(kind: Literal["token", "user"], hash: str) -> None:
    """Raise ValueError unless this is a hash of that kind."""
    parts = hash.split(":")
    sizes = {"sha256": [64], "scrypt": [32, 64]}.get(parts[0])
    wanted = "sha256" if kind == "token" else "scrypt"
    try:
        fits = sizes == [len(part) for part in parts[1:]] and all(map(bytes.fromhex, parts[1:]))
    except ValueError:
        fits = False
    if not fits or parts[0] != wanted:
        command = "vexctl config token" if kind == "token" else "vexctl config password"
        raise ValueError(f"the hash of a {kind} is {wanted}:..., as `{command}` prints it")


class Authenticator:
    """Finds out who sent a request."""

    def __init__(self, tokens: Sequence[Credential], users: Sequence[Credential]) -> None:
        self._tokens = [(bytes.fromhex(t.hash.split(":")[1]), t.principal) for t in tokens]
        self._users = {u.name: (u.hash.split(":"), u.principal) for u in users}
        self._key = os.urandom(32)
        # Guessing must not keep all threads from their work.
        self._checking = threading.BoundedSemaphore(2)
        self._remembered: dict[bytes, Principal] = {}

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return not self._tokens and not self._users

    def quickly(self, headers: dict[bytes, bytes]) -> Principal | None:
        """Who it is; None where nobody is named, or where a password is to be checked first.

        Raises HttpError (401) for a wrong token.
        """
        token = headers.get(b"x-chroma-token")
        if token is None:
            kind, _, value = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() == b"bearer":
                token = value.strip()
            elif kind.lower() == b"basic" and self._users:
                return self._remembered.get(self._keyed(value))
            else:
                raise _denied("authentication is required")
        elif token[:7].lower() == b"bearer ":
            token = token[7:]
        digest, found = hashlib.sha256(token).digest(), None
        for expected, principal in self._tokens:
            if hmac.compare_digest(digest, expected):
                found = principal
        if found is None:
            raise _denied("the token is not valid")
        return found

    def by_password(self, headers: dict[bytes, bytes]) -> Principal:
        """Who it is by name and password.  Takes some 50 ms.  Raises HttpError (401, 429)."""
        if not self._checking.acquire(blocking=False):
            raise busy("too many passwords are being checked; try again")
        try:
            return self._by_password(headers[b"authorization"].partition(b" ")[2])
        finally:
            self._checking.release()

    def _by_password(self, value: bytes) -> Principal:
        try:
            pair = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _denied("the Authorization header is malformed") from error
        name, _, password = pair.partition(":")
        # A name that nobody has takes as long as a wrong password.
        (_, salt, expected), principal = self._users.get(name, (["", "00" * 16, "00" * 32], None))
        given = _scrypt(password, bytes.fromhex(salt))
        if not hmac.compare_digest(given, bytes.fromhex(expected)) or principal is None:
            raise _denied("the user name or the password is not valid")
        if len(self._remembered) >= _REMEMBERED_MOST:
            self._remembered.clear()
        self._remembered[self._keyed(value)] = principal
        return principal

    def _keyed(self, value: bytes) -> bytes:
        return hashlib.blake2b(value, key=self._key, digest_size=32).digest()


def _denied(message: str) -> HttpError:
    return HttpError(
        401,
        "AuthorizationError",
        message,
        (("www-authenticate", 'Bearer realm="vexfs_chroma", Basic realm="vexfs_chroma"'),),
    )


def forbidden(message: str) -> HttpError:
    """403: whoever this is may not do that."""
    return HttpError(403, "AuthError", message)
