"""Numbers of samples as people type them."""

from __future__ import annotations

from workbench.errors import ConfigError


def read_count(text: str) -> int | None:
    """'512' -> 512; '' -> None: all. Raises ConfigError."""
    plain = text.strip().replace(",", "")
    if not plain:
        return None
    if not plain.isdecimal() or not 0 < int(plain) < 10**9:
        raise ConfigError(f"{text.strip()!r} is no number of samples; write one from 1 on, or nothing for all.")
    return int(plain)
