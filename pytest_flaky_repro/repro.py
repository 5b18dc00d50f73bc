"""The ``repro`` object that tests use: ``check`` raises, ``measure`` returns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.bench import Request, Surroundings, build_rules
from pytest_flaky_repro.errors import (
    CampaignInfrastructureError,
    Inconclusive,
    KernelCrashed,
    UsageError,
)
from pytest_flaky_repro.kernels import Kernel
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.report import sentences
from pytest_flaky_repro.session import DEADLINE, VERDICTS, session_of, settings_of

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.verdict import Verdict
    from pytest_flaky_repro.crash import Signature


class Repro:
    """Runs campaigns for one test item."""

    def __init__(self, item: pytest.Item, kernel: Kernel | None) -> None:
        self._item, self._kernel = item, kernel
        self._session = session_of(item.config)
        self.settings = settings_of(item)

    def check(
        self,
        reproducer: str | Path,
        *,
        kernel: Kernel | None = None,
        crash: str | Signature | None = None,
        ok_exit: Sequence[int] = (0,),
        cflags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Runs ``reproducer`` until a verdict; returns it if it is *safe*.

        ``crash`` is the expected crash (a regular expression searched for in its title), ``ok_exit``
        the exit statuses that are survivals, ``cflags`` more words for the compiler of a ``.c``
        file, ``env`` the reproducer's environment.

        Raises KernelCrashed, Inconclusive (as ``--repro-inconclusive`` says) or InfrastructureError.
        """
        __tracebackhide__ = True
        verdict = self.measure(
            reproducer, kernel=kernel, crash=crash, ok_exit=ok_exit, cflags=cflags, env=env
        )
        raise_unless_safe(verdict, self.settings["inconclusive"])
        return verdict

    def measure(
        self,
        reproducer: str | Path,
        *,
        kernel: Kernel | None = None,
        crash: str | Signature | None = None,
        ok_exit: Sequence[int] = (0,),
        cflags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Like :meth:`check`, but every verdict is returned; none is raised."""
        request = Request(
            item=self._item.nodeid,
            kernel=self._pick(kernel),
            reproducer=self._find(reproducer),
            rules=build_rules(self.settings, crash, ok_exit),
            cflags=tuple(cflags),
            environment=tuple(f"{key}={value}" for key, value in (env or {}).items()),
        )
        if len(self._session.kernels) > 1 and self._kernel is None:
            # one test, several kernels: each has evidence of its own
            request = _of_kernel(request)
        verdict = self._session.bench.campaign(request, self.settings, self._surroundings())
        self._item.stash.setdefault(VERDICTS, []).append(verdict)
        return verdict

    def _surroundings(self) -> Surroundings:
        hook = self._item.config.hook
        return Surroundings(
            observer=self._session.observer(self._item),
            should_stop=self._session.should_stop,
            deadline=self._item.stash.get(DEADLINE, None),
            machine_for=lambda experiment, settings: hook.pytest_repro_machine(
                config=self._item.config, experiment=experiment, settings=settings
            ),
        )

    def _pick(self, kernel: Kernel | None) -> Kernel:
        if kernel is not None:
            if not isinstance(kernel, Kernel):
                raise UsageError(
                    f"kernel={kernel!r}: expected one of the fixture kernels, "
                    "such as kernels['fixed']"
                )
            return kernel
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


def _of_kernel(request: Request) -> Request:
    from dataclasses import replace

    return replace(request, item=f"{request.item}[{request.kernel.name}]")


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
