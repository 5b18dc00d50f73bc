"""The ``repro`` object that tests use: ``check`` raises, ``measure`` returns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import pytest

from pytest_flaky_repro import conduct
from pytest_flaky_repro.campaign.verdict import (
    CampaignInfrastructureError,
    Inconclusive,
    KernelCrashed,
    Verdict,
)
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.kernels import Kernel, parse_kernels
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.progress import ItemObserver
from pytest_flaky_repro.report import sentences
from pytest_flaky_repro.request import (
    KnownBad,
    Request,
    Surroundings,
    build_rules,
    compiler_words,
    environment_of,
)
from pytest_flaky_repro.session import COMPARISONS, DEADLINE, VERDICTS, session_of, settings_of
from pytest_flaky_repro.settings import BY_NAME

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pytest_flaky_repro.campaign.comparison import ComparisonVerdict
    from pytest_flaky_repro.crash import Signature


CLUSTERED = (
    "the known-bad kernel's crashes cluster by boot so much that sharing boots costs more than "
    "it gives: calibrated again, and checked, with cold boots"
)


ITSELF = (
    "nothing was calibrated, for {} is the known-bad kernel of {} itself: there is no control, and "
    "the rate to rule out is that of --repro-min-rate"
)


class What(TypedDict, total=False):
    """What counts as the crash, and what the reproducer is given.

    ``crash``: the expected crash, a regular expression searched for in its title. ``ok_exit``: the
    exit status or statuses that are survivals. ``cflags``: more words for the compiler of a ``.c``
    file. ``env``: the reproducer's environment.
    """

    crash: str | Signature
    ok_exit: int | Iterable[int]
    cflags: Sequence[str]
    env: Mapping[str, str]


class Repro:
    """Runs campaigns for one test item."""

    def __init__(self, item: pytest.Item, kernel: Kernel | None, named_by: str = "") -> None:
        self._item, self._kernel, self._named_by = item, kernel, named_by
        self._session = session_of(item.config)
        self.settings = settings_of(item)

    def check(
        self,
        reproducer: str | Path,
        *,
        kernel: Kernel | None = None,
        calibrated_on: Verdict | None = None,
        **what: Unpack[What],
    ) -> Verdict:
        """Runs ``reproducer`` until a verdict; returns it if it is *safe*.

        ``calibrated_on`` is the verdict of a kernel known to crash: then its crash rate is the one
        to rule out, and some of the trials are its, to see that it still crashes here. Words for
        ``what``: see :class:`What`.

        Raises KernelCrashed, Inconclusive (as ``--repro-inconclusive`` says), InfrastructureError.
        """
        __tracebackhide__ = True
        request = self._request(reproducer, kernel, what)
        known_bad = self._known_bad(request, calibrated_on)
        bench = self._session.bench
        around = self._surroundings(request)
        verdict = conduct.check(bench, request, self.settings, around, known_bad)
        if known_bad is None and (calibrated_on is not None or self.settings["calibrate"]):
            asked = "calibrated_on" if calibrated_on is not None else "--repro-calibrate"
            verdict = conduct.noted(verdict, ITSELF.format(request.kernel, asked))
        self._item.stash.setdefault(VERDICTS, []).append(verdict)
        raise_unless_safe(verdict, self.settings["inconclusive"])
        return verdict

    def measure(
        self,
        reproducer: str | Path,
        *,
        kernel: Kernel | None = None,
        crashes: int | None = None,
        **what: Unpack[What],
    ) -> Verdict:
        """Like :meth:`check`, but every verdict is returned; none is raised.

        With ``crashes`` it goes on until there were so many: the verdict then bounds the crash
        rate well, and its ``calibration`` is ready for ``check(..., calibrated_on=)``.
        """
        if crashes is not None and (type(crashes) is not int or crashes < 1):
            raise UsageError(
                f"crashes={crashes!r}: expected a whole number from 1 up, got {crashes!r}"
            )
        request = self._request(reproducer, kernel, what)
        around = self._surroundings(request)
        bench = self._session.bench
        if crashes is None:
            verdict = conduct.check(bench, request, self.settings, around)
        else:
            verdict = conduct.calibrate(bench, request, self.settings, around, crashes)
        self._item.stash.setdefault(VERDICTS, []).append(verdict)
        return verdict

    def compare(
        self, reproducer: str | Path, a: Kernel, b: Kernel, **what: Unpack[What]
    ) -> ComparisonVerdict:
        """Does the crash rate differ between two kernels? Interleaved trials, until it shows.

        Without ``--repro-max-trials`` or ``--repro-budget`` two equal kernels are compared for
        ever, so one of them is asked for.
        """
        settings = self.settings
        if settings["max_trials"] is None and settings["budget"] is None:
            raise UsageError(
                "repro.compare needs an end: two equal kernels would be compared for ever. "
                "Give --repro-max-trials N (pairs) or --repro-budget SECONDS"
            )
        sides = [self._request(reproducer, _a_kernel(kernel), what) for kernel in (a, b)]
        item = f"{self._item.nodeid}::{a.name} against {b.name}"
        sides = [replace(side, item=item) for side in sides]
        around = self._surroundings(sides[0])
        verdict = conduct.compare(self._session.bench, sides[0], sides[1], settings, around)
        self._item.stash.setdefault(COMPARISONS, []).append(verdict)
        return verdict

    def _request(self, reproducer: str | Path, kernel: Kernel | None, what: What) -> Request:
        _refuse_unknown(what, self._item.nodeid)
        request = Request(
            item=self._item.nodeid,
            kernel=self._pick(kernel),
            reproducer=self._find(reproducer),
            rules=build_rules(self.settings, what.get("crash"), what.get("ok_exit", (0,))),
            cflags=compiler_words(what.get("cflags", ())),
            command=sentences.again(self._item.nodeid, self.settings),
            environment=environment_of(what.get("env", {})),
            named_by=self._named_by,
        )
        if len(self._session.kernels) > 1 and self._kernel is None:
            # one test, several kernels: each has evidence of its own
            return replace(request, item=f"{request.item}[{request.kernel.name}]")
        return request

    def _known_bad(self, request: Request, measured: Verdict | None) -> KnownBad | None:
        """The known-bad kernel of ``calibrated_on`` or ``--repro-calibrate``, calibrated."""
        if measured is not None:
            if not isinstance(measured, Verdict):
                raise UsageError(
                    f"calibrated_on={measured!r}: expected what repro.measure(..., crashes=10) "
                    f"returned, got a {type(measured).__name__}"
                )
            subject = measured.subject
            kernel = Kernel(subject.kernel, Path(subject.kernel_path))
            if Path(subject.reproducer) != request.reproducer:
                raise UsageError(
                    f"calibrated_on: {subject.kernel} was measured with {subject.reproducer}, this "
                    f"check runs {request.reproducer}: their crash rates have nothing in common"
                )
        elif self.settings["calibrate"] is not None:
            root = self._item.config.invocation_params.dir
            source = self.settings.source("calibrate")
            (kernel,) = parse_kernels([self.settings["calibrate"]], root, source).values()
        else:
            return None
        if kernel.path == request.kernel.path:
            return None  # the known-bad kernel itself: whether it crashes is not asked
        bad = replace(request, kernel=kernel, item=f"{self._item.nodeid}::calibration {kernel}")
        return self._calibrated(bad, measured)

    def _calibrated(self, bad: Request, measured: Verdict | None) -> KnownBad:
        bench, wanted = self._session.bench, self.settings["calibrate_crashes"]
        if measured is None or measured.calibration is None:
            around = self._surroundings(bad)
            measured = conduct.calibrate(bench, bad, self.settings, around, wanted)
            self._item.stash.setdefault(VERDICTS, []).append(measured)
            if measured.shared is not None and not measured.shared.is_worth_it:
                cold = self.settings.altered(boot="cold")
                measured = conduct.calibrate(bench, bad, cold, around, wanted)
                measured = replace(measured, note=CLUSTERED)
                self._item.stash.setdefault(VERDICTS, []).append(measured)
        if measured.calibration is None:
            raise_unless_safe(
                replace(
                    measured,
                    conclusion=Conclusion.INCONCLUSIVE,
                    why=f"the known-bad kernel {bad.kernel} gave no crash rate: {measured.why}",
                ),
                self.settings["inconclusive"],
            )
        assert measured.calibration is not None
        subject = measured.subject
        known = KnownBad(bad, subject.kernel_sha256, measured.calibration, subject.trial_time)
        if measured.shared is None:
            return known
        return replace(known, boot=measured.shared.how, batch=measured.shared.size)

    def _surroundings(self, request: Request) -> Surroundings:
        hook, observer = self._item.config.hook, ItemObserver(self._item)
        observer.prepare(request.item, request.kernel.name)
        return Surroundings(
            observer=observer,
            should_stop=self._session.should_stop,
            deadline=self._item.stash.get(DEADLINE, None),
            machine_for=lambda experiment, settings: hook.pytest_repro_machine(
                config=self._item.config, experiment=experiment, settings=settings
            ),
            notice=self._session.tell,
        )

    def _pick(self, kernel: Kernel | None) -> Kernel:
        if kernel is not None:
            return _a_kernel(kernel)
        if self._kernel is not None:
            return self._kernel
        kernels = list(self._session.kernels.values())
        if len(kernels) == 1:
            return kernels[0]
        raise UsageError(
            f"{self._item.nodeid}: which kernel? {len(kernels)} were given. Ask for the fixture "
            "'kernel' (one test per kernel), or pass kernel=kernels['NAME']"
            if kernels
            else "no kernel was given: pytest --kernel PATH/TO/bzImage"
        )

    def _find(self, reproducer: str | Path) -> Path:
        """Beside the test's file, or where pytest was started."""
        path = Path(reproducer)
        beside = self._item.path.parent / path
        if path.is_absolute() or beside.exists():
            return beside
        return self._item.config.invocation_params.dir / path


def _a_kernel(given: object) -> Kernel:
    if not isinstance(given, Kernel):
        raise UsageError(
            f"kernel={given!r}: expected one of the fixture kernels, such as kernels['fixed']"
        )
    return given


def _refuse_unknown(what: Mapping[str, object], where: str) -> None:
    """A word that would be ignored could make a verdict of another question."""
    unknown = sorted(set(what) - set(What.__annotations__))
    if not unknown:
        return
    known = ", ".join(What.__annotations__)
    mend = f"Known are: {known}."
    if unknown[0] in BY_NAME:
        option = BY_NAME[unknown[0]].option
        mend = f"It is a setting: @pytest.mark.repro({unknown[0]}=...) or {option}."
    raise UsageError(f"{where}: unknown argument {unknown[0]!r}. {mend}")


def raise_unless_safe(verdict: Verdict, inconclusive: str) -> None:
    """The verdict as an exception, where it is one."""
    __tracebackhide__ = True
    message = "\n".join([sentences.headline(verdict), *sentences.explanation(verdict)])
    if verdict.conclusion is Conclusion.CRASHES:
        raise KernelCrashed(message, verdict)
    if verdict.conclusion is Conclusion.INFRASTRUCTURE:
        raise CampaignInfrastructureError(message, verdict)
    if verdict.conclusion is Conclusion.INCONCLUSIVE and inconclusive == "skip":
        pytest.skip(message)
    if verdict.conclusion is Conclusion.INCONCLUSIVE and inconclusive == "fail":
        raise Inconclusive(message, verdict)


def seconds_left(timeout: float, now: float | None = None) -> float:
    """When a campaign has to end so that its evidence is whole before pytest-timeout strikes."""
    margin = max(2.0, 0.05 * timeout)
    return (time.monotonic() if now is None else now) + max(0.5, timeout - margin)
