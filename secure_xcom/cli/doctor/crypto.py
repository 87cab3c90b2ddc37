"""Checks the cryptographic module: which library seals, and whether it is in FIPS mode."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from secure_xcom.cli.doctor.check import Check, passed, warned

#: Where Linux says whether it runs in FIPS mode.
_FIPS = Path("/proc/sys/crypto/fips_enabled")


def module(fips_file: Path = _FIPS, *, in_fips_mode: bool | None = None) -> Check:
    """Say what seals and opens.

    Args:
        fips_file: holds 1 where the machine is in FIPS mode.
        in_fips_mode: whether the library is; None has it asked.
    """
    from cryptography.hazmat.backends.openssl import backend  # noqa: PLC0415 - only when asked

    name = "crypto.module"
    is_in_fips_mode = _asks_fips(backend) if in_fips_mode is None else in_fips_mode
    state = "on" if is_in_fips_mode else "off"
    said = (
        f"cryptography {version('cryptography')} with {backend.openssl_version_text()}, FIPS mode "
        f"{state}"
    )
    own = (
        "the wheels of cryptography bring an OpenSSL of their own, which is outside of the "
        "machine's FIPS provider"
    )
    if _is_fips(fips_file) and not is_in_fips_mode:
        return warned(
            name,
            f"The machine is in FIPS mode, and what seals is not: {said}; {own}.",
            "Build cryptography against the machine's validated OpenSSL: pip install --no-binary "
            "cryptography cryptography",
        )
    return passed(name, f"{said}; {own}")


def _asks_fips(backend: object) -> bool:
    # It has no public name in any version.
    return bool(getattr(backend, "_fips_enabled", False))


def _is_fips(file: Path) -> bool:
    try:
        return file.read_text().strip() == "1"
    except OSError:
        return False
