"""One running guest: boot it, run commands in it, let it leave.

All of a guest's life happens in the thread that created it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from pytest_flaky_repro.crash import Collector
from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.guest import protocol
from pytest_flaky_repro.guest.protocol import Damaged, Frame, Kind
from pytest_flaky_repro.machine import process, qmp
from pytest_flaky_repro.machine.argv import Ram, Wires, pause_argv, qemu_argv
from pytest_flaky_repro.machine.clock import PhaseClock
from pytest_flaky_repro.machine.console import ConsoleLog, TrialConsole
from pytest_flaky_repro.machine.conversation import (
    NEVER,
    STOPPED,
    Command,
    End,
    Ended,
    Gone,
    GuestGone,
    Ready,
)
from pytest_flaky_repro.machine.sharing import REPORTED, Alarm, Frozen
from pytest_flaky_repro.machine.spec import Deadlines, Emulator, GuestSpec
from pytest_flaky_repro.machine.stall import (
    SYSRQ_CPU_S,
    SYSRQ_KEYS,
    SYSRQ_QUIET_S,
    StallWatch,
    describe_cpus,
    read_cpus,
)
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.streams import Role, Streams

READY_REPEATS = 2
JITTER_US = 20_000  # a restored run begins so much later at most: some ticks of any guest's timer
JITTER_TURNS = 500_000  # and of a loop: a tick or so of an emulated guest
OTHER_BOOTS = "Use --repro-boot batch or cold, or another QEMU (--repro-qemu)."
LINGER_S = 3.0  # idle, after the guest's end
PARTS_MAX = 10_000  # of output: the agent sends 8 KiB as it comes, be it byte by byte, and a tail
DIGITS_MAX = 20  # of a number of 64 bits, all that the agent has
SILENCED = (
    "what the kernel prints no longer reached the console when the run ended, so a crash report "
    "might not have: the reproducer turned the console's log level down (dmesg -n, "
    "/proc/sys/kernel/printk), or its /dev/kmsg is gone"
)
_OF_A_RUN = (Kind.START, Kind.OUT, Kind.END)


class Guest:
    """A guest in QEMU. Call :meth:`kill` (or :meth:`leave`) when done with it."""

    def __init__(
        self,
        emulator: Emulator,
        spec: GuestSpec,
        *,
        stop: StopSignal,
        limits: Deadlines | None = None,
        keep_open: Sequence[int] = (),
        pause: Path | None = None,
        ram: int | None = None,
        restore: Frozen | None = None,
        cleans_up: bool = False,
    ) -> None:
        """Starts QEMU.

        ``keep_open``: descriptors that it inherits. ``ram``: the file for the memory of a guest
        that is to be frozen. ``restore``: goes on from there, with memory of its own.
        ``cleans_up``: what a run leaves in user space is gone before the next one.
        """
        self._frozen, self._cleans_up = restore, cleans_up
        self._alarm = Alarm() if restore is not None or cleans_up else None
        self._runs, self._smp = 0, spec.smp
        self._limits = limits or Deadlines()
        self._stop = stop
        self._pauses = pause is not None  # QEMU stays when the guest resets
        self.console = ConsoleLog()
        self.qmp = qmp.QmpReader()
        self._stderr = ConsoleLog(16 << 10)
        self._scanners = {Role.CONSOLE: protocol.Scanner(), Role.FRAMES: protocol.Scanner()}
        self._frames: list[Frame] = []
        self._boot_nonce = secrets.token_hex(8)
        self._run_nonce = ""
        self._nonces = {self._boot_nonce}
        self._talks_on: Role | None = None  # until READY tells
        self._untrusted: str | None = None
        self._trial: TrialConsole | None = None
        self._sequence = 0
        self._watch = StallWatch(spec.smp)
        self._farewell: PhaseClock | None = None
        self._lingers = False
        self._streams = Streams(stop)
        try:
            wires = Wires(*(self._streams.wire(r) for r in (Role.CONSOLE, Role.FRAMES, Role.QMP)))
            memory = _memory(ram, restore)
            argv = qemu_argv(emulator, spec, self._boot_nonce, wires, memory)
            argv += pause_argv(pause) if pause is not None else []
            images = [spec.kernel.descriptor, spec.initramfs.descriptor]
            images += [memory.descriptor] if memory is not None else []
            with restore.open_state() if restore is not None else nullcontext() as state:
                states = [state] if state is not None else []
                self.pid = self._streams.start(argv, (*images, *states, *keep_open))
        except BaseException:
            self._streams.close()
            raise
        self._streams.write(Role.QMP, qmp.NEGOTIATE)
        if state is not None:
            self._streams.write(Role.QMP, qmp.restore(state))

    # ---- the conversation

    def boot(self) -> Ready:
        """Waits for READY, and for the proof that kernel messages reach the console.

        A restored guest has said READY before; its word then is what is returned.
        """
        if self._frozen is not None:
            return self._wake(self._frozen)
        frame = self._await(
            (Kind.READY,), self._boot_nonce, self._clock(self._limits.boot_cpu_s), "boot"
        )
        port = frame.fields.get("port", "unknown")
        self._talks_on = Role.FRAMES if port == "ttyS1" else Role.CONSOLE
        has_kmsg = frame.fields.get("kmsg") == "1"
        return Ready(
            cpus=_number(frame, "cpus"),
            memory=_number(frame, "memory"),
            release=frame.fields.get("release", "unknown"),
            port=port,
            has_kmsg=has_kmsg,
            messages_seen=has_kmsg and self._printed(protocol.console_check(self._boot_nonce)),
        )

    def run(
        self, command: Command, collector: Collector | None, started: Callable[[], None]
    ) -> End:
        """Runs one command; ``started`` is called when START has arrived.

        ``collector`` gets what the console prints from this run's mark on, and ends the run
        (``Gone.REPORTED``) once a crash report is complete.
        """
        nonce, mark = secrets.token_hex(16), secrets.token_hex(8)
        self._nonces.add(nonce)
        self._run_nonce = nonce
        if self._alarm is not None and self._alarm.kernel_reported:
            raise GuestGone(Gone.CHANGED, f"after the run before, {REPORTED}")
        self._trial = TrialConsole(protocol.run_mark(mark), collector, protocol.run_end(mark))
        self._say(Kind.RUN, nonce, _run_fields(command) | self._manner(command) | {"mark": mark})
        # a console that printk shares may have torn START: whatever follows it says the same
        first = self._await(_OF_A_RUN, nonce, self._clock(self._limits.boot_cpu_s), "start")
        if first.kind is not Kind.START:
            self._frames.insert(0, first)
        else:
            self._compare(first)
        started()
        clock = self._clock(self._limits.run_grace_cpu_s, not_before=command.time_s)
        output: dict[int, bytes] = {}
        while True:
            frame = self._await((Kind.OUT, Kind.END), nonce, clock, "run")
            if frame.kind is Kind.END:
                break
            output[_number(frame, "at")] = protocol.unpack(frame.fields.get("data", ""))
            if len(output) > PARTS_MAX:
                raise GuestGone(Gone.UNTRUSTED, "more output frames than the agent has to send")
        end = _read_end(frame, output)
        self._say(Kind.ACK, nonce, {})
        self._runs += 1
        if self._alarm is not None:
            self._alarm.ended(frame)
        return end

    def settle(self) -> str:
        """Reads the console to the run's end; why no other run may follow, or nothing.

        Raises GuestGone as :meth:`leave` does.
        """
        clock = self._clock(self._limits.leave_cpu_s)
        self._read_to_the_runs_end()
        self._raise_if_gone(clock, "settling")
        while self._trial is not None and self._trial.end_at() is not None:  # a report is under way
            self._pump(clock)
            self._raise_if_gone(clock, "settling")
        if self._trial is not None and not self._trial.ended:
            raise GuestGone(Gone.SILENCED, SILENCED)
        return self._alarm.why() if self._alarm is not None else ""

    def freeze(self, state: int) -> None:
        """Writes the devices' state to the descriptor ``state`` and ends QEMU.

        InfrastructureError, with what QEMU says, where it cannot.
        """
        self._streams.send_descriptor(Role.QMP, qmp.take_descriptor(), state)
        self._streams.write(Role.QMP, qmp.freeze())
        clock = self._clock(self._limits.leave_cpu_s)
        while not self.qmp.frozen:
            if self.qmp.refused is not None:
                msg = f"this guest cannot be frozen: {self.qmp.refused}. {OTHER_BOOTS}"
                raise InfrastructureError(msg)
            self._raise_if_gone(clock, "freezing")
            self._pump(clock)
        self.kill()

    def attend(self, wake: int) -> None:
        """Keeps the guest's streams flowing until the descriptor ``wake`` is readable."""
        clock = self._clock(NEVER, not_before=NEVER)
        self._streams.watch(wake)
        while not self._streams.woken and not self._stop.is_set():
            if self._streams.returncode() is not None:
                return
            self._pump(clock)

    def hold(self) -> None:
        """Stops the guest's CPUs and waits until somebody ends QEMU, or the stop signal."""
        self._streams.write(Role.QMP, qmp.STOP)
        clock = self._clock(NEVER, not_before=NEVER)
        while self._streams.returncode() is None and not self._stop.is_set():
            self._pump(clock)

    def leave(self) -> None:
        """Asks the guest to reboot, which ends QEMU, and reads its console to the end.

        GuestGone when that shows frames that are not the agent's: a console is read at its own
        pace, so they may well be older than the END that was believed. And GuestGone when the
        guest does not leave by itself: its console is then not known to be whole, and whoever said
        END may not have been the agent, which does as it is told.
        """
        self._read_to_the_runs_end()
        self._say(Kind.QUIT, "quit", {})
        clock = self._clock(self._limits.leave_cpu_s)
        while self._status() is None and not clock.expired():
            if self._stop.is_set() or self._watch.verdict is not None:
                break
            if self._pauses and self.qmp.shutdown_reason is not None:
                self._streams.write(Role.QMP, qmp.QUIT)
            self._pump(clock)
        code, stopped = self._status(), self._stop.is_set()
        why = self._post_mortem(clock) if code is None and not stopped else ""
        self.kill()
        if self._untrusted is not None:
            raise GuestGone(Gone.UNTRUSTED, self._untrusted)
        if code is None and stopped:
            raise GuestGone(Gone.STOPPED, STOPPED)
        if code is None:
            raise GuestGone(Gone.STALLED, f"it ended its run and did not leave: {why}")
        reason = _gone_by(code, self.qmp.shutdown_reason)
        if reason is not Gone.EXITED:
            raise GuestGone(reason, f"on leaving, {self.exit_detail}")
        if self._trial is not None and not self._trial.ended:
            raise GuestGone(Gone.SILENCED, SILENCED)

    def _wake(self, frozen: Frozen) -> Ready:
        """Waits until a restored guest runs."""
        clock = self._clock(self._limits.boot_cpu_s)
        while not self.qmp.resumed:
            if self.qmp.refused is not None:
                msg = f"this guest cannot be restored: {self.qmp.refused}. {OTHER_BOOTS}"
                raise InfrastructureError(msg)
            self._raise_if_gone(clock, "restoring")
            self._pump(clock)
        self._boot_nonce = frozen.boot_nonce  # only so that a late READY is not called a forgery
        self._nonces = {self._boot_nonce}
        self._talks_on = Role.FRAMES if frozen.ready.port == "ttyS1" else Role.CONSOLE
        return frozen.ready

    def _manner(self, command: Command) -> dict[str, str]:
        """How a run is begun that shares its boot with others."""
        if self._frozen is not None:  # the state of its generator was everybody's
            entropy = hashlib.sha512(command.entropy + secrets.token_bytes(64)).digest()
            return {
                "entropy": protocol.pack(entropy),
                "delay_us": str(secrets.randbelow(JITTER_US)),
                "turns": str(secrets.randbelow(JITTER_TURNS)),
                "epoch_ns": str(time.time_ns()),
            }
        return {"fresh": "1"} if self._cleans_up and self._runs else {}

    def _compare(self, start: Frame) -> None:
        """An earlier run may have switched a CPU off: then this is another guest than it was."""
        if self._alarm is None:
            return
        self._alarm.started(start)
        cpus = _number(start, "cpus")
        if cpus not in (-1, self._smp):
            why = f"it shows {cpus} CPU(s) of {self._smp}, and showed all of them at boot"
            raise GuestGone(Gone.CHANGED, why)

    def _read_to_the_runs_end(self) -> None:
        """A console is read at its own pace; one that was silenced never gets there."""
        clock = self._clock(self._limits.leave_cpu_s, idle_s=1.0)
        while self._trial is not None and not self._trial.ended:
            is_gone = self._status() is not None or self._watch.verdict is not None
            if is_gone or self._stop.is_set() or clock.expired():
                return
            self._pump(clock)

    def kill(self) -> None:
        """Ends QEMU now. What it had still said is read first; calling it again does nothing."""
        for role, chunk in self._streams.kill():
            self._take(role, chunk)
        self._streams.close()

    def trial_console(self) -> bytes | None:
        """What the console printed from the last run's mark on; None if the mark never came."""
        return self._trial.content() if self._trial is not None else None

    @property
    def boot_nonce(self) -> str:
        return self._boot_nonce

    @property
    def exit_detail(self) -> str:
        """How QEMU ended, with what it said on stderr and over QMP."""
        code = self._streams.returncode()
        if self._lingers:
            return f"the guest ended ({self.qmp.shutdown_reason}), and QEMU hung on its way out"
        if code is None:
            return "QEMU is still running"
        said = process.describe_exit(code, self._stderr.content().decode("utf-8", "replace"))
        reason = self.qmp.shutdown_reason
        return f"{said} (shutdown reason: {reason})" if reason else said

    # ---- waiting

    def _status(self) -> int | None:
        """QEMU's exit status; None while it runs; 0 when it told the guest's end and hung then.

        QEMU 7.2 does so now and then (twice in 500 boots on a busy host) if it is asked for
        registers in that moment: its clean-up waits for the monitor's dispatcher for ever
        (monitor_cleanup in its monitor/monitor.c). Nothing more comes from the guest by then.
        """
        if self._lingers:
            return 0
        code = self._streams.returncode()
        if code is not None or self.qmp.shutdown_reason is None or self._pauses:
            return code
        if self._farewell is None:
            self._farewell = self._clock(NEVER, idle_s=LINGER_S)
        self._lingers = self._farewell.expired()
        return 0 if self._lingers else None

    def _clock(
        self, cpu_s: float, not_before: float = 0.0, idle_s: float | None = None
    ) -> PhaseClock:
        return PhaseClock(
            self.pid,
            cpu_s=cpu_s,
            idle_s=idle_s or self._limits.idle_s,
            wall_cap_s=self._limits.wall_cap_s,
            not_before=not_before,
        )

    def _await(self, kinds: tuple[Kind, ...], nonce: str, clock: PhaseClock, phase: str) -> Frame:
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if frame.kind in kinds and frame.nonce == nonce:
                    return frame
            self._raise_if_gone(clock, phase)
            if not self._frames:  # else it is gone, and these are its last
                self._pump(clock)

    def _printed(self, text: bytes) -> bool:
        """Whether the console shows ``text``, which the agent wrote before it first said READY.

        It repeats READY every second: two more of those, and the text is not on its way.
        """
        clock = self._clock(self._limits.boot_cpu_s)
        while text not in self.console.content():
            gone = self._stop.is_set() or self._status() is not None
            if gone or clock.expired() or len(self._frames) >= READY_REPEATS:
                return False
            self._pump(clock)
        return True

    def _raise_if_gone(self, clock: PhaseClock, phase: str) -> None:
        if self._untrusted is not None:
            raise GuestGone(Gone.UNTRUSTED, self._untrusted)
        code = self._status()
        if code is not None:
            self.kill()
            if self._frames:
                return
            raise GuestGone(_gone_by(code, self.qmp.shutdown_reason), self.exit_detail)
        if self._stop.is_set():
            raise GuestGone(Gone.STOPPED, STOPPED)
        if self._pauses and self.qmp.shutdown_reason is not None:
            reason = _gone_by(0, self.qmp.shutdown_reason)
            raise GuestGone(reason, f"the guest was reset ({self.qmp.shutdown_reason})")
        end_at = self._trial.end_at() if self._trial is not None else None
        if end_at is not None and time.monotonic() >= end_at:
            raise GuestGone(Gone.REPORTED, "the kernel's report is complete")
        if self._watch.verdict is not None or clock.expired():
            raise GuestGone(
                Gone.STALLED, f"no progress in phase {phase}: {self._post_mortem(clock)}"
            )

    def _post_mortem(self, clock: PhaseClock) -> str:
        """What holds a guest up that is given up; its backtraces go into the console."""
        why = self._watch.verdict or f"{clock.describe()}; {self._examine()}"
        if self._watch.listens:
            self._ask_for_backtraces()
        return why

    def _examine(self) -> str:
        """Asks QEMU what the CPUs of a silent guest are doing."""
        clock = PhaseClock(self.pid, cpu_s=5.0, idle_s=2.0, wall_cap_s=5.0)
        dumps = self.qmp.dumps
        self._streams.write(Role.QMP, qmp.REGISTERS)
        while self.qmp.dumps == dumps:
            if clock.expired() or self._streams.returncode() is not None:
                return "QEMU itself does not answer"
            self._pump(clock)
        return describe_cpus(self.qmp.registers or "")

    def _ask_for_backtraces(self) -> None:
        """SysRq over a serial break, into the console that is kept; the trial's is closed first.

        A kernel without CONFIG_MAGIC_SYSRQ_SERIAL ignores it, and says nothing more.
        """
        if self._trial is not None:
            self._trial.close()
        for key in SYSRQ_KEYS:
            breaks, said = self.qmp.breaks, self.console.total
            self._streams.write(Role.QMP, qmp.BREAK)
            if not self._pump_until(lambda n=breaks: self.qmp.breaks > n):  # type: ignore[misc]
                return
            self._streams.write(Role.CONSOLE, key.encode())
            self._pump_until(lambda: False)
            if self.console.total == said:
                return

    def _pump_until(self, done: Callable[[], bool]) -> bool:
        """Pumps until ``done``; False once the guest is silent or its time for this is spent."""
        clock = PhaseClock(self.pid, cpu_s=SYSRQ_CPU_S, idle_s=SYSRQ_QUIET_S, wall_cap_s=60.0)
        quiet_until = time.monotonic() + 10 * SYSRQ_QUIET_S
        said = self.console.total
        while not done():
            if self.console.total != said:
                said, quiet_until = self.console.total, time.monotonic() + SYSRQ_QUIET_S
            spent = clock.expired() or time.monotonic() >= quiet_until
            if spent or self._stop.is_set() or self._streams.returncode() is not None:
                return False
            self._pump(clock)
        return True

    def _pump(self, clock: PhaseClock) -> None:
        if self._watch.is_due():
            self._streams.write(Role.QMP, qmp.REGISTERS)
        timeout = clock.next_look()
        end_at = self._trial.end_at() if self._trial is not None else None
        if end_at is not None:
            timeout = min(timeout, max(0.0, end_at - time.monotonic()))
        for role, chunk in self._streams.poll(timeout):
            self._take(role, chunk)
            if role in (Role.CONSOLE, Role.FRAMES):
                clock.progress()

    # ---- what arrives, and what is sent

    def _take(self, role: Role, chunk: bytes) -> None:
        if role is Role.STDERR:
            self._stderr.append(chunk)
        elif role is Role.QMP:
            dumps = self.qmp.dumps
            self.qmp.feed(chunk)
            if self.qmp.dumps > dumps and self.qmp.registers is not None:
                self._watch.look(read_cpus(self.qmp.registers), process.cpu_seconds(self.pid))
        else:
            if role is Role.CONSOLE:
                self.console.append(chunk)
                if self._trial is not None:
                    self._trial.feed(chunk)
                    if self._alarm is not None:
                        self._alarm.feed(chunk)
            for found in self._scanners[role].feed(chunk):
                self._judge_frame(role, found)

    def _judge_frame(self, role: Role, found: Frame | Damaged) -> None:
        """Keeps the agent's own frames; a frame from anyone else spoils the guest.

        On a shared console printk may tear a line, so a damaged one means nothing there: the
        agent repeats what matters. On a port of its own nothing tears, and nobody else writes.
        From START on, only that run's nonce is good: what is run may know the earlier ones.
        """
        if isinstance(found, Frame) and found.nonce in self._nonces:
            self._frames.append(found)
            if found.nonce == self._run_nonce:
                self._nonces = {found.nonce}
        elif isinstance(found, Frame):
            self._untrusted = f"a result frame with a nonce that is not ours, on {role.value}"
        elif role is Role.FRAMES or self._talks_on is Role.FRAMES:
            self._untrusted = (
                f"a damaged or forged result frame on {role.value}: {found.line!r:.200}"
            )

    def _say(self, kind: Kind, nonce: str, fields: dict[str, str]) -> None:
        self._sequence += 1
        frame = Frame(nonce, self._sequence, kind, fields)
        self._streams.write(self._talks_on or Role.FRAMES, protocol.encode(frame))


def _memory(ram: int | None, restore: Frozen | None) -> Ram | None:
    if restore is not None:
        return Ram(restore.memory, restored=True)
    return Ram(ram, restored=False) if ram is not None else None


def _gone_by(returncode: int, reason: str | None) -> Gone:
    """A clean exit is the guest's doing only if QEMU says so: SIGTERM and ``quit`` end in 0 too.

    The reasons are those of QAPI's ShutdownCause (qapi/run-state.json in QEMU).
    """
    if returncode < 0:
        return Gone.KILLED
    if returncode:
        return Gone.FAILED
    return Gone.EXITED if (reason or "").startswith("guest-") else Gone.KILLED


def _run_fields(command: Command) -> dict[str, str]:
    fields = {
        "argv": protocol.pack("\0".join(command.argv).encode()),
        "env": protocol.pack("\0".join(command.env).encode()),
        "entropy": protocol.pack(command.entropy),
    }
    if command.time_s != NEVER:
        fields["time_ms"] = str(max(1, round(command.time_s * 1000)))
    return fields


def _number(frame: Frame, key: str) -> int:
    text = frame.fields.get(key, "")
    return int(text) if text.isdecimal() and len(text) <= DIGITS_MAX else -1


def _read_end(frame: Frame, output: dict[int, bytes]) -> End:
    """What an END frame says; GuestGone when that is not something the agent can say."""
    numbers = {key: _number(frame, key) for key in ("code", "ns", "output")}
    try:
        how = Ended(frame.fields.get("how"))
    except ValueError:
        how = None
    if how is None or min(numbers.values()) < 0:
        detail = f"an END frame that makes no sense: {dict(frame.fields)!r:.200}"
        raise GuestGone(Gone.UNTRUSTED, detail)
    return End(
        how=how,
        code=numbers["code"],
        seconds=numbers["ns"] / 1e9,
        stuck=frame.fields.get("stuck") != "0",
        output=_join(output, numbers["output"]),
    )


def _join(parts: dict[int, bytes], total: int) -> bytes:
    """The kept output in order, with a note where the agent dropped some of ``total`` bytes."""
    joined, at = b"", 0
    for offset, part in [*sorted(parts.items()), (total, b"")]:
        if offset > at:
            joined += b"\n[flaky-repro: %d bytes of output left out here]\n" % (offset - at)
        joined += part
        at = offset + len(part)
    return joined
