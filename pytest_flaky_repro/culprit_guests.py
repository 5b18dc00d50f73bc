"""A culprit search's trials, run in guests: the reproducer on the kernel of each image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from pytest_flaky_repro.bench import Bench
from pytest_flaky_repro.boots import mode_for
from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.campaign.experiment import Experiment
from pytest_flaky_repro.campaign.loop import Budget
from pytest_flaky_repro.campaign.rules import OtherCrash
from pytest_flaky_repro.campaign.trials import Arm, News, Progress, TrialLoop
from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image
from pytest_flaky_repro.culprit.testing import TrialReport, Untestable
from pytest_flaky_repro.culprit.until import UntilCrash, report_of
from pytest_flaky_repro.errors import UsageError, told_by
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.guest import reproducer as reproducers
from pytest_flaky_repro.kernels import Kernel
from pytest_flaky_repro.machine.accel import Choice
from pytest_flaky_repro.machine.trial import TrialOrder
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.request import Request, Surroundings
from pytest_flaky_repro.settings import Settings
from pytest_flaky_repro.unstarted import explained

IDENTITY = ("smp", "memory", "machine", "append", "trial_time", "hung", "crash_classes", "boot")


class GuestTester:
    """Runs trials in guests, as many at once as fit (or ``jobs``).

    ``request`` gives reproducer and rules; its kernel is replaced by the image's. Crashes other
    than the target teach nothing about it. ``seed`` makes the trials' seeds follow from it.

    Where trials share boots, a boot of ``boot_size`` trials at most is what is reported: it has
    crashed, or survived all of them. However crashes cluster by boot, boots are independent, and
    all images that can crash have one rate of them.
    """

    def __init__(
        self, root: Path, request: Request, settings: Settings, seed: str | None = None
    ) -> None:
        self._root, self._request, self._settings, self.seed = root, request, settings, seed
        self._choice: Choice | None = None
        self._any_started = False
        self._mode = mode_for(settings, calibrated=True)
        with told_by(request.named_by):
            payload = reproducers.prepare(
                request.reproducer, cache=cache_folder(), cflags=request.cflags
            )
        overlays = [_digest(root / path, settings.source("initrd")) for path in settings["initrd"]]
        facts = {
            "reproducer": payload.digest,
            "initrd": overlays,
            "environment": request.environment,
            "ok_exit": sorted(request.rules.ok_exit),
            **{name: settings[name] for name in IDENTITY},
            **self._mode.parameters(),
        }
        self._identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def boot_size(self) -> int:
        return self._mode.size

    def run(
        self,
        image: Image,
        survivals: int,
        target: Signature | None,
        on_trial: Callable[[TrialReport], None],
        already: int = 0,
    ) -> Untestable | None:
        """See :class:`~pytest_flaky_repro.culprit.testing.Tester`."""
        with closing(Bench(self._root)) as bench:  # a new one: kernels' contents are not kept
            return self._run(bench, image, survivals, target, on_trial, already)

    def _run(
        self,
        bench: Bench,
        image: Image,
        survivals: int,
        target: Signature | None,
        on_trial: Callable[[TrialReport], None],
        already: int,
    ) -> Untestable | None:
        request, settings = self._for(image, target)
        experiment = bench.experiment(request, settings)
        if self._choice is not None:  # the images are variants of one kernel
            bench.choices[experiment.kernel.sha256] = self._choice
        around = Surroundings(None, lambda: None, None, lambda *_: None)
        with bench.machine(experiment, settings, around) as machine:
            self._choice = bench.choices.get(experiment.kernel.sha256)
            parameters = {"image": image.id, **self._mode.parameters()}
            writer, history = bench.evidence(request, settings, experiment, parameters)
            goal, told = UntilCrash(survivals), 0

            def tell(progress: Progress) -> News:
                nonlocal told
                trials, told = progress.trials[told:], len(progress.trials)
                self._any_started |= any(trial.started is not None for trial in trials)
                return partial(on_trial, self._report(trials, goal, str(writer.path)))

            loop = TrialLoop(
                [Arm("test", machine, partial(_order, experiment, request), experiment.digest,
                     request.rules)],
                goal,
                budget=Budget(jobs=settings["jobs"] or machine.at_once),
                writer=writer,
                history=history,
                on_trial=tell,
                seed=self._seeds(image, already),
                sharing=self._mode.sharing,
            )  # fmt: skip
            try:
                ending = loop.run()
            finally:
                writer.close()
        if ending.conclusion is not Conclusion.INFRASTRUCTURE:
            return None
        # Once a guest has started, it is the image that does not boot, not what is asked of guests.
        why = ending.why if self._any_started else explained(ending.why, experiment, settings)
        return Untestable(why)

    def _report(self, trials: Sequence[Trial], goal: UntilCrash, record: str) -> TrialReport:
        decided, vote = goal.decided
        seed = decided.seed if self._mode.size == 1 else decided.boot
        return report_of(trials, decided, vote, seed, record)

    def _for(self, image: Image, target: Signature | None) -> tuple[Request, Settings]:
        if image.kernel is None:
            raise UsageError("this image has no kernel: the builder has to name one for guests")
        rules = replace(self._request.rules, expected=target, other=OtherCrash.IGNORE)
        request = replace(
            self._request,
            kernel=Kernel(image.kernel.name, image.kernel),
            rules=rules,
            environment=(*self._request.environment, *image.environment),
        )
        values = {**self._settings.values, "resume": False}
        values["append"] = " ".join(filter(None, (values["append"], image.append)))
        return request, Settings(values, self._settings.sources)

    def _seeds(self, image: Image, already: int) -> str | None:
        return None if self.seed is None else f"{self.seed} {image.id} {already}"


def _order(experiment: Experiment, request: Request, seed: str) -> TrialOrder:
    return experiment.order(seed, request.rules.classes)


def _digest(archive: Path, source: str) -> str:
    try:
        return hashlib.sha256(archive.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"{source}: cannot read the archive {archive}: {error.strerror}"
        ) from error
