"""The kinds of report a console can carry, and how they are switched on and off by name."""

from __future__ import annotations

import enum

from pytest_flaky_repro.errors import UsageError


class CrashClass(enum.Enum):
    """What sort of report it is. The value is the name used by ``--repro-crash-classes``."""

    # Kernel reports.
    PANIC = "panic"
    OOPS = "oops"  # page fault, protection fault, undefined instruction, external abort
    BUG = "bug"  # BUG_ON() and the "BUG: ..." messages that have no class of their own
    KASAN = "kasan"
    KMSAN = "kmsan"
    KCSAN = "kcsan"
    KFENCE = "kfence"
    UBSAN = "ubsan"
    LOCKDEP = "lockdep"
    SOFTLOCKUP = "softlockup"
    HARDLOCKUP = "hardlockup"
    HUNG_TASK = "hung_task"
    RCU_STALL = "rcu_stall"
    WARNING = "warning"  # WARN_ON() and its family
    WARNING_TEXT = "warning_text"  # a printk() that merely starts with "WARNING: "
    REFCOUNT = "refcount"
    LIST = "list"
    ATOMIC = "atomic"  # scheduling or sleeping where that is not allowed
    LEAK = "leak"
    REBOOT = "reboot"
    STACK = "stack"  # stack overrun, stack protector
    UNCLASSIFIED = "unclassified"  # a call trace under a header that no format explains

    # User space.
    SEGFAULT_LINE = "segfault_line"  # the kernel's note of a fatal signal in any process
    SIGNAL = "signal"
    KILLED = "killed"  # SIGKILL, SIGTERM and the like: somebody ended it
    EXIT = "exit"
    GO_PANIC = "go_panic"
    GO_FATAL = "go_fatal"
    GO_RACE = "go_race"
    GLIBC = "glibc"
    ASSERT = "assert"
    ASAN = "asan"
    UBSAN_USER = "ubsan_user"
    TSAN = "tsan"
    MSAN = "msan"
    LSAN = "lsan"
    RUST_PANIC = "rust_panic"
    PYTHON = "python"
    FATAL_LOG = "fatal_log"  # CHECK failures and fatal log lines of C++ programs

    @property
    def kernel(self) -> bool:
        """Whether the kernel itself failed, rather than a process on it."""
        return self in KERNEL_CLASSES

    @property
    def sanitizer(self) -> bool:
        """Whether a user-space sanitizer speaks: its word counts whatever the exit status."""
        return self in _SANITIZERS


KERNEL_CLASSES = frozenset(
    {
        CrashClass.PANIC,
        CrashClass.OOPS,
        CrashClass.BUG,
        CrashClass.KASAN,
        CrashClass.KMSAN,
        CrashClass.KCSAN,
        CrashClass.KFENCE,
        CrashClass.UBSAN,
        CrashClass.LOCKDEP,
        CrashClass.SOFTLOCKUP,
        CrashClass.HARDLOCKUP,
        CrashClass.HUNG_TASK,
        CrashClass.RCU_STALL,
        CrashClass.WARNING,
        CrashClass.WARNING_TEXT,
        CrashClass.REFCOUNT,
        CrashClass.LIST,
        CrashClass.ATOMIC,
        CrashClass.LEAK,
        CrashClass.REBOOT,
        CrashClass.STACK,
        CrashClass.UNCLASSIFIED,
    }
)
USER_CLASSES = frozenset(CrashClass) - KERNEL_CLASSES
_SANITIZERS = frozenset(
    {
        CrashClass.ASAN,
        CrashClass.UBSAN_USER,
        CrashClass.TSAN,
        CrashClass.MSAN,
        CrashClass.LSAN,
        CrashClass.GO_RACE,
    }
)
# A segfault line names any process of the guest, a reproducer's children included, which may
# well die on purpose; the exit status of the reproducer speaks for itself. And drivers greet with
# "WARNING: ..." on healthy boots (some 160 such strings in Linux 6.1).
DEFAULT_CLASSES = frozenset(CrashClass) - {CrashClass.SEGFAULT_LINE, CrashClass.WARNING_TEXT}


def parse_classes(text: str, source: str = "--repro-crash-classes") -> frozenset[CrashClass]:
    """Read ``"panic,oops"`` (only these), ``"-leak"`` (all but these) or ``"+segfault_line"``.

    ``all``, ``kernel``, ``user`` and ``default`` name sets. Words apply from left to right; a list
    that starts with a signed word starts from the default set.

    >>> CrashClass.LEAK in parse_classes("-leak")
    False
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    signed = not words or words[0][0] in "+-"
    chosen: set[CrashClass] = set(DEFAULT_CLASSES) if signed else set()
    for word in words:
        named = _named(word.lstrip("+-"), source)
        chosen = chosen - named if word.startswith("-") else chosen | named
    return frozenset(chosen)


def _named(word: str, source: str) -> frozenset[CrashClass]:
    sets = {
        "all": frozenset(CrashClass),
        "default": DEFAULT_CLASSES,
        "kernel": KERNEL_CLASSES,
        "user": USER_CLASSES,
    }
    if word in sets:
        return sets[word]
    try:
        return frozenset({CrashClass(word)})
    except ValueError:
        known = ", ".join([*sets, *(kind.value for kind in CrashClass)])
        raise UsageError(
            f"{source}: expected crash classes, saw {word!r}; choose from {known}"
        ) from None
