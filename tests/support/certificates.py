"""Certificates for a test, made by openssl: an authority, and what it has signed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.programs import needed

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
_DAYS = ("-days", "2")


class Authority:
    """Signs certificates into a folder: NAME.pem and NAME.key."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._openssl(
            "req", "-x509", *_KEY, "-nodes", *_DAYS, "-subj", f"/CN={name}", "-keyout", f"{name}.key",
            "-out", f"{name}.pem", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    @property
    def certificate(self) -> Path:
        return self._folder / f"{self._name}.pem"

    def sign(self, name: str, hosts: str, password: str = "") -> tuple[Path, Path]:
        """Return the files of a certificate and its key; hosts as openssl writes them, `DNS:localhost,IP:127.0.0.1`."""
        protection = ("-passout", f"pass:{password}") if password else ("-nodes",)
        self._openssl(
            "req", *_KEY, *protection, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={hosts}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
        )
        self._openssl(
            "x509", "-req", *_DAYS, "-in", f"{name}.csr", "-CA", str(self.certificate), "-CAkey", f"{self._name}.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-extfile", str(extensions),
        )  # fmt: skip
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        command = [str(needed("openssl", "openssl")), *arguments]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True)
