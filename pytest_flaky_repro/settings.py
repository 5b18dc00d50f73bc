"""Every option: its name, its meaning, where its value came from.

Precedence: marker > command line > ``PYTEST_REPRO_*`` > ini ``repro_*`` > default. Importing this
loads nothing heavy: it is read on every pytest run, used or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from pytest_flaky_repro.errors import UsageError

Parse = Callable[[str], Any]
N = TypeVar("N", int, float)


class Option(NamedTuple):  # made six times sooner than a dataclass, on every pytest run
    """One option. ``flags`` beyond ``--repro-NAME`` are its short public names."""

    name: str
    parse: Parse
    default: Any
    help: str
    metavar: str
    alias: str | None = None
    choices: tuple[str, ...] = ()
    in_marker: bool = True
    repeatable: bool = False
    flag: bool = False

    @property
    def option(self) -> str:
        return "--repro-" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return _VARIABLE + self.name.upper()

    @property
    def ini(self) -> str:
        return "repro_" + self.name

    @property
    def value(self) -> str:
        """What a user may give, as help shows it behind the option's name."""
        return "|".join(self.choices) or self.metavar


def rate(text: str) -> float:
    return _number(text, float, lambda v: 0.0 < v < 1.0, "a number between 0 and 1 (0.05 for 5%)")


def noise_rate(text: str) -> float:
    return _number(text, float, lambda v: 0.0 <= v < 1.0, "a number from 0 up to, not including, 1")


def correlation(text: str) -> float:
    return _number(text, float, lambda v: 0.0 <= v <= 1.0, "a number from 0 to 1")


def confidence(text: str) -> float:
    return _number(
        text,
        float,
        lambda v: 0.5 <= v < 1.0,
        "a number from 0.5 up to, not incl., 1 (0.99 for 99%)",
    )


def seconds(text: str) -> float:
    good = "a positive number of seconds"
    return _number(text, float, lambda v: 0.0 < v < float("inf"), good)


class AutoTime(float):
    """``auto``: trials run at most so many seconds until a better length is known."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"auto:{float(self):g}"


def trial_time(text: str) -> float:
    """``auto`` tries lengths up to the default, ``auto:S`` up to S seconds."""
    if text == "auto":
        return AutoTime(DEFAULT_TRIAL_TIME)
    good = "a positive number of seconds, auto, or auto:S for what is best up to S seconds"
    number = _number(text.removeprefix("auto:"), float, lambda v: 0.0 < v < float("inf"), good)
    return AutoTime(number) if text.startswith("auto:") else number


def count(text: str) -> int:
    return _number(text, int, lambda v: v >= 1, "a whole number from 1 up")


def factor(text: str) -> float:
    return _number(text, float, lambda v: 1.0 <= v < float("inf"), "a number from 1 up")


def controls(text: str) -> int:
    return _number(text, int, lambda v: v == 0 or v >= 2, "0, or a whole number from 2 up")


def jobs(text: str) -> int | None:
    """None stands for auto."""
    return None if text == "auto" else count(text)


def words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def truth(text: str) -> bool:
    answers = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in answers:
        raise ValueError("1, true, yes, 0, false or no")
    return answers[text.lower()]


def _number(text: str, kind: Callable[[str], N], good: Callable[[N], bool], what: str) -> N:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(what) from None
    if not good(value):
        raise ValueError(what)
    return value


DEFAULT_MIN_RATE = 0.05
DEFAULT_TRIAL_TIME = 10.0

OPTIONS: tuple[Option, ...] = (
    Option(
        "kernel", str, (), "a kernel (bzImage) to test; repeatable", "[NAME=]PATH",
        alias="--kernel", in_marker=False, repeatable=True,
    ),
    Option(
        "confidence", confidence, 0.95, "how sure either verdict has to be", "C",
        alias="--confidence",
    ),
    Option(
        "confidence_safe", confidence, None, "confidence of 'safe', if it should differ", "C",
    ),
    Option(
        "confidence_crash", confidence, None, "confidence of 'crashes', if it should differ", "C",
    ),
    Option(
        "initrd", str, (), "an archive laid over the generated initramfs; repeatable", "PATH",
        alias="--initrd", in_marker=False, repeatable=True,
    ),
    Option(
        "reproducer", str, None, "test this program on each kernel; no test file needed", "PATH",
        alias="--reproducer", in_marker=False,
    ),
    Option(
        "min_rate", rate, DEFAULT_MIN_RATE, "smallest crash rate that must not be missed", "P",
    ),
    Option("noise", noise_rate, 0.0, "the rate of crashes that are not the kernel's fault", "P"),
    Option(
        "trial_time", trial_time, DEFAULT_TRIAL_TIME,
        "seconds a reproducer may run in one trial; auto: what a known-bad kernel shows to be "
        "best, up to the default; auto:S: the same, up to S seconds",
        "S|auto|auto:S",
    ),
    Option("max_trials", count, None, "stop as inconclusive after so many trials", "N"),
    Option("budget", seconds, None, "stop as inconclusive after so many seconds", "S"),
    Option("jobs", jobs, None, "guests at once for one test (default: as many as fit)", "N|auto"),
    Option("accel", str, "auto", "how QEMU runs the guest", "", choices=("auto", "kvm", "tcg")),
    Option("smp", count, 1, "CPUs of the guest", "N"),
    Option("memory", count, 256, "memory of the guest", "MIB"),
    Option("boot_timeout", seconds, 120.0, "CPU seconds that QEMU may take to boot", "S"),
    Option("append", str, "", "more words for the kernel's command line", "ARGS"),
    Option("machine", str, "pc", "QEMU's machine type", "M"),
    Option(
        "boot", str, "cold", "one boot for each trial, or for several of them",
        "", choices=("cold", "batch", "snapshot"),
    ),
    Option("batch", count, 16, "trials of one boot at most (--repro-boot batch, snapshot)", "N"),
    Option(
        "correlation", correlation, 1.0, "largest correlation of crashes within a boot", "R",
    ),
    Option(
        "calibrate", str, None, "a kernel known to crash: its rate is the one to rule out",
        "NAME=PATH", in_marker=False,
    ),
    Option("calibrate_crashes", count, 10, "crashes to learn that rate from", "N"),
    Option("calibrate_trials", count, 10_000, "give the calibration up after so many trials", "N"),
    Option("reduction", factor, 1.0, "rule out a rate so many times below the known one", "R"),
    Option(
        "control_every", controls, 10, "one trial in so many is the known-bad kernel's; 0: none",
        "N",
    ),
    Option("evidence", str, ".repro", "the folder of the trials' records", "DIR", in_marker=False),
    Option(
        "resume", truth, False, "go on from the evidence of an earlier run", "",
        in_marker=False, flag=True,
    ),
    Option(
        "inconclusive", str, "fail", "what a test without a verdict does", "",
        choices=("fail", "skip", "pass"),
    ),
    Option(
        "other", str, "fail", "what another crash than the expected one does", "",
        choices=("fail", "count", "ignore"),
    ),
    Option(
        "hung", str, "lost", "what a guest that hangs in its trial counts as", "",
        choices=("lost", "crash"),
    ),
    Option("crash_classes", str, "", "classes of crash: only these, or +NAME, -NAME", "LIST"),
    Option(
        "exit", str, "pytest", "exit status: pytest's, or 0/1/125 for git bisect run", "",
        choices=("pytest", "bisect"), in_marker=False,
    ),
    Option(
        "pause_on_crash", truth, False, "keep the first guest that crashes, stopped, for gdb", "",
        in_marker=False, flag=True,
    ),
    Option("qemu", str, None, "the QEMU to use", "PATH", in_marker=False),
    Option("html", str, None, "write a report: one HTML file", "PATH", in_marker=False),
    Option(
        "metrics", str, None, "keep a file of Prometheus metrics up to date", "PATH",
        in_marker=False,
    ),
    Option(
        "dask", str, None, "run the trials on the workers of this Dask scheduler", "ADDRESS",
        in_marker=False,
    ),
)  # fmt: skip

BY_NAME = {option.name: option for option in OPTIONS}
FOLDER_VARIABLES = ("PYTEST_REPRO_CACHE", "PYTEST_REPRO_SLOTS")  # no options: cache.py, slots.py
_VARIABLE = "PYTEST_REPRO_"


class Sources(NamedTuple):
    """Where values may come from, the strongest first. Each maps an option's name to raw text."""

    marker: Mapping[str, Any]
    command_line: Mapping[str, Any]
    environment: Mapping[str, str]
    ini: Mapping[str, Any]
    where: str = ""  # of the marker: the test's id


class Settings:
    """Resolved options: ``settings["smp"]``, and where each came from. Never changed."""

    __slots__ = ("sources", "values")

    def __init__(self, values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        self.values, self.sources = values, sources

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def altered(self, **values: Any) -> Settings:
        """The same with some values changed; where they came from stays."""
        return Settings({**self.values, **values}, self.sources)

    def source(self, name: str) -> str:
        """Such as ``--repro-smp`` or ``default``."""
        return self.sources[name]

    def given(self) -> dict[str, Any]:
        """What was set by anybody but a marker, as command-line options to set it again."""
        return {
            option.alias or option.option: self.values[option.name]
            for option in OPTIONS
            if not option.flag
            and self.sources[option.name] != "default"
            and not self.sources[option.name].startswith("@")
        }


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """What to warn of: variables that look like ours, and that nothing reads."""
    ours = [name for name in environment if name.startswith(_VARIABLE)]
    known = {*FOLDER_VARIABLES, *(option.variable for option in OPTIONS)} if ours else set()
    return [_unknown_variable(name, known) for name in sorted(ours) if name not in known]


def _unknown_variable(name: str, known: set[str]) -> str:
    from difflib import get_close_matches  # seldom needed

    ends = sorted(other.removeprefix(_VARIABLE) for other in known)  # all begin alike
    near = get_close_matches(name.removeprefix(_VARIABLE), ends, n=1)
    if near:
        mend = f"The nearest known name is {_VARIABLE}{near[0]}"
    else:
        mend = f"Known are {_VARIABLE} and the name of an option, such as {_VARIABLE}MIN_RATE"
    return f"environment variable {name}: nothing reads it. {mend}"


def resolve(sources: Sources) -> Settings:
    """Settings for one test, or for the run when there is no marker."""
    unknown = sorted(set(sources.marker) - {o.name for o in OPTIONS if o.in_marker})
    if unknown:
        allowed = ", ".join(o.name for o in OPTIONS if o.in_marker)
        msg = (
            f"@pytest.mark.repro on {sources.where}: unknown argument {unknown[0]!r}. "
            f"Known are: {allowed}."
        )
        raise UsageError(msg)
    values, names = {}, {}
    for option in OPTIONS:
        values[option.name], names[option.name] = _resolve_one(option, sources)
    settings = Settings(values, names)
    if sources.where:  # of a run as a whole nothing is idle yet: a marker may say how to boot
        refuse_idle(settings)
    return settings


def refuse_idle(settings: Settings) -> None:
    """What would change nothing as things stand is a mistake, better told than ignored."""
    if settings.source("boot") != "default":
        return
    for name in ("batch", "correlation"):
        if settings.source(name) != "default":
            raise UsageError(
                f"{settings.source(name)}: it concerns trials that share a boot, and here each has "
                "one of its own: add --repro-boot batch (or snapshot), or leave it out"
            )


def resolve_one(name: str, sources: Sources) -> Any:
    """The value of one option, whatever is wrong with the others."""
    return _resolve_one(BY_NAME[name], sources)[0]


def _resolve_one(option: Option, sources: Sources) -> tuple[Any, str]:
    candidates = (
        (sources.marker.get(option.name), f"@pytest.mark.repro({option.name}=) on {sources.where}"),
        (sources.command_line.get(option.name), option.alias or option.option),
        (sources.environment.get(option.variable), f"environment variable {option.variable}"),
        (sources.ini.get(option.name), f"ini option {option.ini}"),
    )
    for raw, source in candidates:
        if raw is not None and raw not in ([], ""):
            return _parse(option, raw, source), source
    return option.default, "default"


def _parse(option: Option, raw: Any, source: str) -> Any:
    if option.repeatable:
        return tuple(raw) if isinstance(raw, (list, tuple)) else words(str(raw))
    if option.flag and isinstance(raw, bool):
        return raw
    text = str(raw)
    if option.choices and text not in option.choices:
        msg = f"{source}: {text!r} is not one of {', '.join(option.choices)}"
        raise UsageError(msg)
    try:
        return option.parse(text)
    except ValueError as error:
        msg = f"{source}: expected {error}, got {text!r}"
        raise UsageError(msg) from None
