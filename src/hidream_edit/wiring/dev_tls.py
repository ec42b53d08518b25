"""Certificates for the hosted service's names, signed by an authority that exists on this machine only."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hidream_edit.api.doors import HOSTS, host_names
from hidream_edit.domain.errors import InputInvalid

CERTIFICATE_DAYS, AUTHORITY_DAYS = 397, 3650  # clients refuse server certificates that live longer than 398 days
AUTHORITY_NAME = "hidream-edit development authority"


@dataclass(frozen=True, slots=True)
class DevTls:
    """Files of a made authority and of the server's certificate."""

    authority: Path  # to be trusted by clients
    certificate: Path  # of the server, with its chain
    key: Path  # of the server, readable by its owner only
    names: tuple[str, ...]

    def lines(self) -> list[str]:
        """What to do with them."""
        return [
            f"authority    {self.authority}",
            f"certificate  {self.certificate}",
            "",
            "1. Serve with it (ports below 1024 may need rights):",
            "     hidream-edit serve --tls --port 443",
            "2. Let the names lead here, in the hosts file of each client machine:",
            f"     127.0.0.1 {' '.join(sorted(HOSTS))}",
            "3. Let clients trust the authority:",
            f"     NODE_EXTRA_CA_CERTS={self.authority}    for Node",
            f"     SSL_CERT_FILE={self.authority}          for Python",
        ]


def files_in(folder: Path, bases: tuple[str, ...]) -> DevTls:
    """Where the files lie."""
    names = tuple(sorted({*host_names(bases), "localhost", "*.localhost", "127.0.0.1", "::1"}))
    place = folder / "tls"
    return DevTls(place / "authority.pem", place / "server.pem", place / "server-key.pem", names)


def made(folder: Path, bases: tuple[str, ...]) -> DevTls:
    """Make what is not there yet, and a new server certificate each time; an authority that clients already trust
    stays."""
    files = files_in(folder, bases)
    files.authority.parent.mkdir(parents=True, exist_ok=True)
    authority_key_file = files.authority.with_name("authority-key.pem")
    if files.authority.exists() and authority_key_file.exists():
        authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
        loaded = serialization.load_pem_private_key(authority_key_file.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise InputInvalid(f"{authority_key_file} is not a key that this program made", field="tls")
        authority_key = loaded
    else:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(authority_key)
        _write_private(authority_key_file, authority_key)
        files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(files.names, key.public_key(), authority, authority_key)
    _write_private(files.key, key)
    chain = (one.public_bytes(serialization.Encoding.PEM) for one in (certificate, authority))
    files.certificate.write_bytes(b"".join(chain))
    return files


def without_tickets(_: object, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """What uvicorn would speak TLS with, but without session tickets.

    A ticket comes while a client may be writing its first request. The websockets library, which the official Python
    client uses, reads it on another thread, and two threads must not use one OpenSSL connection: now and then the
    request is lost and ``realtime`` waits for ever. Without tickets nothing comes before the answer. What a ticket
    would save is part of a later handshake.
    """
    context = default()
    context.num_tickets = 0
    return context


def existing(folder: Path) -> DevTls:
    """The files that `made` left.

    Raises:
        InputInvalid: it was never called.
    """
    files = files_in(folder, ())
    if not (files.certificate.exists() and files.key.exists()):
        raise InputInvalid("there is no certificate yet: make one with `hidream-edit dev-tls`", field="tls")
    return files


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_NAME)])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = _begun(name, name, key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256())


def _certificate(
    names: tuple[str, ...],
    key: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hidream-edit")])
    builder = _begun(subject, authority.subject, key, CERTIFICATE_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # clocks of other machines may be behind
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_private(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(data)
