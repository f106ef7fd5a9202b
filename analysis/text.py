"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"


def percent(share: float, *, signed: bool = True) -> str:
    """Return a share as a percentage: 12.3%, 1.23%, 0.12%, 0.012%."""
    value = 100 * share
    size = abs(value)
    digits = 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 3
    text = f"{size:,.{digits}f}%"
    if float(f"{size:.{digits}f}") == 0:
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def p_text(p: float) -> str:
    """Return a p-value with two or three digits."""
    if p < 1e-15:
        return f"<1e{MINUS}15"
    if p >= 0.9995:
        return "1"
    if p >= 0.001:
        return f"{p:.3f}"
    mantissa, exponent = f"{p:.1e}".split("e")
    return f"{mantissa}e{MINUS}{abs(int(exponent))}"


def count(number: int) -> str:
    """Return a number with separated thousands."""
    return f"{number:,}"


def value(number: float) -> str:
    """Return a mean with four significant digits."""
    size = abs(number)
    if size >= 1000:
        return f"{number:,.0f}"
    return f"{number:.4g}" if size >= 1e-4 or size == 0 else f"{number:.1e}"


def in_words(parts: Sequence[str]) -> str:
    """Return a list as prose: a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def scaled(number: float) -> str:
    """Return a large number in thousands, millions or billions."""
    for size, name in ((1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:,.1f} {name}"
    return f"{number:,.0f}"
