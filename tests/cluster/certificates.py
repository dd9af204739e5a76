"""A cluster's authorities, certificates and kubeconfigs, as files in one folder."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=365)


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose files are FOLDER/NAME.crt and FOLDER/NAME.key."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, folder: Path, name: str) -> "Authority":
        """Make one."""
        key = private_key(folder / f"{name}.key")
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = _builder(_name(name, ""), _name(name, ""), key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
        _write(folder / f"{name}.crt", certificate)
        return cls(folder, certificate, key)

    def issue(self, name: str, common_name: str, group: str = "", hosts: tuple[str, ...] = ()) -> None:
        """Write NAME.crt and NAME.key: a server's with host names and addresses, a client's without."""
        key = private_key(self.folder / f"{name}.key")
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(_name(common_name, group), self.certificate.subject, key)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        _write(self.folder / f"{name}.crt", builder.sign(self.key, hashes.SHA256()))


def private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Make a key and write it for its owner alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    file.touch(mode=0o600)
    file.write_bytes(text)
    return key


def kubeconfig(file: Path, server: str, pki: Path, user: str) -> None:
    """Write a kubeconfig for the client whose certificate is PKI/USER.crt. JSON is YAML."""

    def text(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "ixt",
        "contexts": [{"name": "ixt", "context": {"cluster": "ixt", "user": user}}],
        "clusters": [
            {"name": "ixt", "cluster": {"server": server, "certificate-authority-data": text("ca.crt")}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": text(f"{user}.crt"),
                    "client-key-data": text(f"{user}.key"),
                },
            }
        ],
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(config, indent=2))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _name(common_name: str, group: str) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
