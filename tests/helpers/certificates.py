"""Certificates that tests make: an authority, and a part of a cluster that it vouches for."""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


def write_certificates(folder: Path) -> dict[str, str]:
    """Write ca.pem, cert.pem and key.pem into a new folder; return the options of Dask's programs that name them."""
    folder.mkdir()
    authority, part = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    files = {
        "ca": sign(authority, name(f"authority of {folder.name}"), authority, is_authority=True),
        "cert": sign(part, name("part of a cluster"), authority, issuer=name(f"authority of {folder.name}")),
    }
    for stem, certificate in files.items():
        (folder / f"{stem}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(part.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    stems = {"--tls-ca-file": "ca", "--tls-cert": "cert", "--tls-key": "key"}
    return {option: str(folder / f"{stem}.pem") for option, stem in stems.items()}


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def sign(
    key: ec.EllipticCurvePrivateKey,
    subject: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    issuer: x509.Name | None = None,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(issuer or subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - DAY).not_valid_after(now + DAY)
    return builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True).sign(
        signer, hashes.SHA256()
    )


def dask_configuration(options: dict[str, str]) -> dict[str, str]:
    """Return the environment that names the same files in Dask's configuration, as docs/clusters.md does."""
    prefix = "DASK_DISTRIBUTED__COMM__TLS"
    parts = [f"{prefix}__{part}__{what}" for part in ("CLIENT", "SCHEDULER", "WORKER") for what in ("CERT", "KEY")]
    files = {name: options["--tls-cert" if name.endswith("CERT") else "--tls-key"] for name in parts}
    return files | {
        f"{prefix}__CA_FILE": options["--tls-ca-file"],
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
        "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tls",
    }
