"""A certificate for this machine's own address, made when it is needed."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path, name: str = "127.0.0.1") -> tuple[Path, ssl.SSLContext]:
    """(a certificate that nobody has signed, for SSL_CERT_FILE; what a server needs of it)"""
    if shutil.which("openssl") is None:
        pytest.skip("there is no `openssl`, which makes the certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    # No authority: rustls takes none for a server's own.
    names = ["-addext", f"subjectAltName=IP:{name}", "-addext", "basicConstraints=critical,CA:FALSE"]
    made = ["openssl", "req", "-x509", *curve, "-nodes", "-days", "2", "-subj", "/CN=test", *names]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context
