"""TLS records sealed by hand, for messages that no library sends.

Python's ``ssl`` sends no second close_notify, nothing after the first, and no request for new keys.
Therefore the secrets are read from the key log that OpenSSL writes, and the records are created
here.

Source: RFC 8446 (TLS 1.3), sections 4.6.3, 5 and 7; RFC 5246 (TLS 1.2), sections 5, 6 and 7.2; RFC
5288 (its AES-GCM ciphers), section 3.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterator

CHANGE_CIPHER_SPEC = 20
ALERT = 21
HANDSHAKE = 22
APPLICATION_DATA = 23

CLOSE_NOTIFY = b"\x01\x00"
"""The close_notify alert: a warning with the number 0."""

LONGEST = (1 << 14) + 256
"""Maximal length of the payload of a TLS 1.3 record; TLS 1.2 allows some more."""

_VERSION = b"\x03\x03"
_TAG = 16


def record(kind: int, body: bytes) -> bytes:
    """Return a record: a header, and ``body`` as it is."""
    return bytes([kind]) + _VERSION + struct.pack("!H", len(body)) + body


def kinds_of(data: bytes) -> Iterator[int]:
    """Yield the kind of each record in ``data``, which holds complete records."""
    while data:
        yield data[0]
        (size,) = struct.unpack("!H", data[3:5])
        data = data[5 + size :]


def random_of_hello(data: bytes) -> bytes:
    """Return the random of the ClientHello or ServerHello at the start of ``data``."""
    return data[11:43]


def secrets_of(key_log: str) -> dict[str, bytes]:
    """Return the secrets of the one connection in a key log, by label."""
    lines = [line.split() for line in key_log.splitlines() if not line.startswith("#")]
    return {label: bytes.fromhex(secret) for label, _, secret in lines}


class Sealer:
    """Seals the records of one end of a connection with AES-GCM, the usual choice.

    ``cipher`` is OpenSSL's name of the cipher; ``number`` is the number of records that the end has
    sealed with these keys before. Raises ValueError for other ciphers.
    """

    def __init__(self, cipher: str, number: int) -> None:
        if "GCM" not in cipher:
            raise ValueError(f"Records can be sealed by hand with AES-GCM only, not {cipher}.")
        self._hash = "sha384" if cipher.endswith("SHA384") else "sha256"
        self._key_size = 32 if "AES256" in cipher or "AES_256" in cipher else 16
        self._number = number
        self._key = self._nonce = b""

    def seal(self, kind: int, data: bytes) -> bytes:
        """Return the next record with ``data``. The ``SSLObject`` does not know about it."""
        raise NotImplementedError

    def _encrypt(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
        # The package is not installed everywhere, and only some tests need it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._number += 1
        return AESGCM(self._key).encrypt(nonce, data, header)


class Sealer13(Sealer):
    """Sealer for TLS 1.3. ``secret`` is the end's traffic secret."""

    def __init__(self, cipher: str, number: int, secret: bytes) -> None:
        super().__init__(cipher, number)
        self._use(secret)

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._key = self._expand(b"key", self._key_size)
        self._nonce = self._expand(b"iv", 12)

    def _expand(self, label: bytes, size: int) -> bytes:
        """Derive up to one hash length of bytes: HKDF-Expand-Label without a context."""
        label = b"tls13 " + label
        info = struct.pack("!HB", size, len(label)) + label + b"\0"
        return hmac.digest(self._secret, info + b"\1", self._hash)[:size]

    def seal(self, kind: int, data: bytes) -> bytes:
        """Return the next record with ``data``. The ``SSLObject`` does not know about it."""
        inner = data + bytes([kind])
        header = record(APPLICATION_DATA, bytes(len(inner) + _TAG))[:5]
        number = int.from_bytes(self._nonce) ^ self._number
        return header + self._encrypt(number.to_bytes(12), inner, header)

    def key_update(self, *, requested: bool) -> bytes:
        """Return the record that announces new keys, and use the new keys from then on.

        ``requested`` also asks the peer for new keys.
        """
        result = self.seal(HANDSHAKE, b"\x18\0\0\1" + bytes([requested]))
        self._use(self._expand(b"traffic upd", len(self._secret)))
        self._number = 0
        return result


class Sealer12(Sealer):
    """Sealer for TLS 1.2. ``randoms`` are the client's and the server's, from their hellos."""

    def __init__(
        self, cipher: str, number: int, master: bytes, randoms: tuple[bytes, bytes], server: bool
    ) -> None:
        super().__init__(cipher, number)
        # The key block holds the keys of the client and of the server, then the fixed part of the
        # nonce of each: an authenticated cipher needs no further keys.
        size = self._key_size
        seed = b"key expansion" + randoms[1] + randoms[0]
        block = self._pseudo_random(master, seed, 2 * size + 8)
        self._key = block[size : 2 * size] if server else block[:size]
        self._nonce = block[2 * size + 4 :] if server else block[2 * size : 2 * size + 4]

    def _pseudo_random(self, secret: bytes, seed: bytes, size: int) -> bytes:
        result = b""
        link = seed
        while len(result) < size:
            link = hmac.digest(secret, link, self._hash)
            result += hmac.digest(secret, link + seed, self._hash)
        return result[:size]

    def seal(self, kind: int, data: bytes) -> bytes:
        """Return the next record with ``data``. The ``SSLObject`` does not know about it."""
        number = self._number.to_bytes(8)
        header = number + record(kind, data)[:3] + struct.pack("!H", len(data))
        return record(kind, number + self._encrypt(self._nonce + number, data, header))
