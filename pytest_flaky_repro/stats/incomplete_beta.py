"""The regularised incomplete beta function in plain math, for bounds without scipy.

Continued fraction 8.17.22 of the NIST Digital Library of Mathematical Functions, evaluated by
Lentz's method (W. J. Lentz, Appl. Opt. 15, 1976, 668-671); it converges in about
sqrt(max(a, b)) steps on the near side of the mean, the far side follows by symmetry.
"""

from __future__ import annotations

import math

_TINY = 1e-300
_CLOSE = 1e-15
_STEPS = 200_000


def log_beta(a: float, b: float) -> float:
    """Return ln B(a, b)."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_incomplete_beta(a: float, b: float, x: float) -> float:
    """Return ln of the integral of t**(a-1) * (1-t)**(b-1) over t from 0 to x, not regularised.

    a, b > 0 and 0 <= x <= 1; -inf at x = 0.
    """
    if x <= 0.0:
        return -math.inf
    if x >= 1.0:
        return log_beta(a, b)
    if x <= (a + 1.0) / (a + b + 2.0):
        return _near(a, b, x)
    whole, far = log_beta(a, b), _near(b, a, 1.0 - x)
    return whole + math.log1p(-math.exp(min(far - whole, -1e-17)))


def _near(a: float, b: float, x: float) -> float:
    front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    return front + math.log(_fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, _away(1.0 - (a + b) * x / (a + 1.0))
    d = 1.0 / d
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d, c = 1.0 / _away(1.0 + even * d), _away(1.0 + even / c)
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d, c = 1.0 / _away(1.0 + odd * d), _away(1.0 + odd / c)
        value *= d * c
        if abs(d * c - 1.0) < _CLOSE:
            return value
    raise AssertionError(f"incomplete beta did not converge at a={a}, b={b}, x={x}")


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
