"""What a verdict means, in words that carry its condition; and numbers as they are shown.

A verdict speaks of the procedure, never of the kernel: no probability that *this* kernel is
fixed can be had without a prior, so no sentence here attaches the confidence to the kernel.
A bound is only ever rounded away from the data.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.stats.bounds import zero_crash_upper

if TYPE_CHECKING:
    from pytest_flaky_repro.stats.design import Design
    from pytest_flaky_repro.stats.tally import Tally

_UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\u00a1-\u2027\u2030-\u205f\u2070-\ud7ff]")


def percent(rate: float) -> str:
    """0.0099829 -> '1.0%', 0.00012 -> '0.012%'; three digits where that is exact: '1.25%'."""
    value = 100 * rate
    if value >= 10 or value == 0:
        shown = f"{value:.0f}"
    else:
        shown = f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"
    whole = f"{value:.3g}"  # as somebody may have typed it
    if not math.isclose(float(shown), value, rel_tol=1e-9) and math.isclose(
        float(whole), value, rel_tol=1e-9
    ):
        shown = whole
    return f"{Decimal(shown):f}%"


def upwards(rate: float) -> str:
    """A percentage that is never below ``rate``: an upper bound may be rounded up only."""
    shown = percent(rate)
    if float(shown[:-1]) >= 100 * rate * (1 - 1e-12):
        return shown
    digits = 0 if 100 * rate >= 10 else 1 if 100 * rate >= 0.95 else 3
    return f"{100 * rate + 0.5 * 10**-digits:.{digits}f}%"


def downwards(rate: float) -> str:
    """A percentage that is never above ``rate``: a lower bound may be rounded down only."""
    shown = percent(rate)
    if float(shown[:-1]) <= 100 * rate * (1 + 1e-12):
        return shown
    value = Decimal(100 * rate)
    digits = 0 if value >= 10 else 1 - value.adjusted()
    return f"{value.quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR):f}%"


def confidence(value: float) -> str:
    """0.99 -> '99%', 0.999 -> '99.9%', 1 - 0.01 / 7 -> '99.857%': never more than it is.

    Three digits of the error are shown: shares of a family's error have no end.
    """
    shown = Decimal(f"{100 * value:.10f}")
    digits = max(0, 2 - (100 - shown).adjusted())
    text = f"{shown.quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR):f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}%"


def counted(number: int, plural: str) -> str:
    """``1 trial``, ``2 trials``; a large number as it is written."""
    return f"{number} {plural.removesuffix('s') if number == 1 else plural}"


def printable(text: str) -> str:
    """Guest text with everything that could move a terminal's cursor made visible."""
    return _UNPRINTABLE.sub(lambda m: f"\\x{ord(m[0]):02x}", text)


def safe_bound(design: Design, tally: Tally) -> float:
    """The crash rate that *safe* rules out: what the data reached, at most the rate asked for."""
    if tally.crashes == 0 and tally.trials_low:
        return zero_crash_upper(tally.trials_low, design.confidence_safe)
    return design.min_rate


def word(conclusion: Conclusion, design: Design, tally: Tally) -> str:
    """The verdict as the word beside a test's name: ``SAFE (0/90, rate <= 5.0% at 99%)``."""
    counts = f"{tally.crashes}/{tally.trials_low}"
    if conclusion is Conclusion.SAFE:
        bound = f"rate <= {upwards(safe_bound(design, tally))}"
        return f"SAFE ({counts}, {bound} at {confidence(design.confidence_safe)})"
    if conclusion is Conclusion.INFRASTRUCTURE:
        return "INFRASTRUCTURE"
    return f"{conclusion.value.upper()} ({counts})"


def meaning(
    conclusion: Conclusion, design: Design, where: str = "", source: str = "", unit: str = "trials"
) -> str:
    """What a conclusion means, in a sentence.

    ``where`` names hosts, reproducer and trial time; ``source`` says where the minimum rate comes
    from, ``unit`` what of.
    """
    where = f" ({where})" if where else ""
    rate = f"{percent(design.min_rate)}{f' ({source})' if source else ''}"
    if conclusion is Conclusion.SAFE:
        return (
            f"If {rate} or more of the trials crashed{where}, this would have been said with "
            f"probability at most {percent(design.error_safe)}."
        )
    if conclusion is Conclusion.CRASHES and design.noise == 0:
        return "With a noise floor of 0 (--repro-noise), one crash is proof."
    if conclusion is Conclusion.CRASHES:
        return (
            f"If {percent(design.noise)} or fewer of the {unit} crashed without the kernel's "
            f"fault, this would have been said with probability at most "
            f"{percent(design.error_crash)}."
        )
    if conclusion is Conclusion.INCONCLUSIVE:
        noise = f" nor one of {percent(design.noise)} or less" if design.noise else ""
        return f"Neither a crash rate of {rate} or more{noise} is ruled out."
    return "Nothing was learned about the kernel: what failed is the harness or its set-up."
