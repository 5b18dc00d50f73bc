"""Formats of user-space endings: Go, Rust, Python, glibc and the compilers' sanitizers.

Sources: Go's ``runtime/panic.go`` (``printpanics``, ``throw``), ``runtime/race``; compiler-rt's
``sanitizer_report`` modules; glibc's ``__libc_message``, ``__assert_fail``; Rust's
``std/src/panicking.rs``; CPython's ``traceback``.
"""

from __future__ import annotations

import re

from pytest_flaky_repro.crash.kinds import CrashClass

from .model import Ends, Format, Where, header

_USER = (Where.USER,)

ROWS: tuple[Format, ...] = (
    Format(
        CrashClass.GO_RACE,
        (b"WARNING: ",),
        header(r"WARNING: DATA RACE"),
        "DATA RACE in {frame}",
        b"WARNING: DATA RACE\nRead at 0x00c0000180e8 by goroutine 9:\n  main.count()\n"
        b"      /src/main.go:96 +0x99",
        "DATA RACE in main.count",
        _USER,
        ends=Ends.RULE,
        user=True,
    ),
    Format(
        CrashClass.GO_PANIC,
        (b"panic: ",),
        header(r"panic: (?P<what>.*?)(?: \[recovered(?:, repanicked)?\])?$"),
        "panic: {what} in {frame}",
        b"panic: runtime error: index out of range [5] with length 3\n\n"
        b"goroutine 1 [running]:\nmain.pick(...)\n\t/src/main.go:30 +0x73d",
        "panic: runtime error: index out of range [NUM] with length NUM in main.pick",
        _USER,
        bare=("panic: {what}",),
        details=(header(r"goroutine \d+ .*\[.+\]:"),),
        ends=Ends.IDLE,
        user=True,
        needs=True,
    ),
    Format(
        CrashClass.GO_FATAL,
        (b"atal error",),
        header(r"fatal error: (?P<what>.*)"),
        "fatal error: {what} in {frame}",
        b"fatal error: concurrent map writes\n\ngoroutine 22 [running]:\nmain.fill()\n"
        b"\t/src/main.go:47 +0x58",
        "fatal error: concurrent map writes in main.fill",
        _USER,
        bare=("fatal error: {what}",),
        details=(header(r"(?:goroutine \d+ .*\[.+\]:|runtime stack:|runtime\.\w+)"),),
        ends=Ends.IDLE,
        user=True,
        needs=True,
    ),
    Format(
        CrashClass.ASAN,
        (b"Sanitizer: ",),
        header(
            r"(?:==\d+==)?(?:ERROR: |WARNING: )?AddressSanitizer: "
            r"(?P<bug>SEGV|attempting [\w-]+|[\w-]+(?:\(\w+\))?)"
        ),
        "AddressSanitizer: {bug} in {frame}",
        b"==85==ERROR: AddressSanitizer: heap-use-after-free on address 0x604000000013 at pc"
        b" 0x55ac2b78340f\nWRITE of size 1 at 0x604000000013 thread T0\n"
        b"    #0 0x55ac2b78340e in pop /src/c.c:12",
        "AddressSanitizer: heap-use-after-free in pop",
        _USER,
        bare=("AddressSanitizer: {bug}",),
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.TSAN,
        (b"Sanitizer: ",),
        header(
            r"(?:==\d+==)?(?:WARNING|ERROR): ThreadSanitizer: (?P<bug>.*?)(?: \(pid=\d+\)| on |$)"
        ),
        "ThreadSanitizer: {bug} in {frame}",
        b"WARNING: ThreadSanitizer: data race (pid=6949)\n"
        b"  Read of size 4 at 0x5555555580e0 by main thread:\n    #0 count /src/c.c:20 (a+0x150e)",
        "ThreadSanitizer: data race in count",
        _USER,
        bare=("ThreadSanitizer: {bug}",),
        ends=Ends.RULE,
        user=True,
    ),
    Format(
        CrashClass.MSAN,
        (b"Sanitizer: ",),
        header(r"(?:==\d+==)?(?:WARNING|ERROR): MemorySanitizer: (?P<bug>[\w-]+)"),
        "MemorySanitizer: {bug} in {frame}",
        b"==85==WARNING: MemorySanitizer: use-of-uninitialized-value\n"
        b"    #0 0x4a3c50 in branch /src/c.c:9:7",
        "MemorySanitizer: use-of-uninitialized-value in branch",
        _USER,
        bare=("MemorySanitizer: {bug}",),
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.LSAN,
        (b"Sanitizer: ",),
        header(r"(?:==\d+==)?ERROR: LeakSanitizer: (?P<bug>.*)"),
        "LeakSanitizer: {bug} in {frame}",
        b"==85==ERROR: LeakSanitizer: detected memory leaks\n\n"
        b"Direct leak of 7 byte(s) in 1 object(s) allocated from:\n"
        b"    #0 0x4a in malloc (/a+0x4a)\n    #1 0x4b in keep /src/c.c:6",
        "LeakSanitizer: detected memory leaks in keep",
        _USER,
        bare=("LeakSanitizer: {bug}",),
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.ASAN,
        (b"Sanitizer: ", b"libFuzzer: "),
        header(r"(?:==\d+==)?\s*ERROR: (?P<word_tool>\w*Sanitizer|libFuzzer): (?P<bug>[\w-]+)"),
        "{word_tool}: {bug} in {frame}",
        b"==85==ERROR: HWAddressSanitizer: tag-mismatch on address 0x0042\n"
        b"    #0 0x4a3c50 in pop /c.c:9",
        "HWAddressSanitizer: tag-mismatch in pop",
        _USER,
        bare=("{word_tool}: {bug}",),
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.UBSAN_USER,
        (b": runtime error: ",),
        header(r"(?P<place>[^\s:()]+):\d+(?::\d+)?: runtime error: (?P<bug>.*)"),
        "UndefinedBehaviorSanitizer: {bug} in {frame}",
        b"src/c.c:12:7: runtime error: signed integer overflow: 2147483647 + 1 cannot be"
        b" represented in type 'int'",
        "UndefinedBehaviorSanitizer: signed integer overflow: NUM + NUM cannot be represented in"
        " type 'int' in src/c.c",
        _USER,
        bare=("UndefinedBehaviorSanitizer: {bug} in {place}",),
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.RUST_PANIC,
        (b"panicked at ",),
        header(r"thread '.*?'(?: \(\d+\))? panicked at (?P<place>[^\s:]+\.rs)(?::\d+)+:?"),
        "Rust panic: {what}",
        b"thread 'main' panicked at src/main.rs:4:5:\nindex out of bounds: the len is 3 but"
        b" the index is 7",
        "Rust panic: index out of bounds: the len is NUM but the index is NUM",
        details=(re.compile(rb"(?P<what>\S.*)"),),
        bare=("Rust panic in {place}",),
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.RUST_PANIC,
        (b"panicked at ",),
        header(r"thread '.*?' panicked at '(?P<what>.*?)', (?P<place>[^\s:]+\.rs)"),
        "Rust panic: {what}",
        b"thread 'main' panicked at 'explicit panic', src/main.rs:4:5",
        "Rust panic: explicit panic",
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.GLIBC,
        (b" detected ***",),
        header(r"\*\*\* (?P<what>[a-z ]+ detected) \*\*\*"),
        "{what}",
        b"*** buffer overflow detected ***: terminated",
        "buffer overflow detected",
        ends=Ends.LINE,
        user=True,
    ),
    Format(
        CrashClass.GLIBC,
        (b"(): ",),
        header(
            r"(?P<what>(?:free|malloc|realloc|calloc|corrupted|munmap_chunk|malloc_consolidate"
            r"|double free|memalign)\w*\(\): [a-z][\w ()<>=!+-]*)$"
        ),
        "{what}",
        b"free(): double free detected in tcache 2",
        "free(): double free detected in tcache NUM",
        ends=Ends.LINE,
        user=True,
    ),
    Format(
        CrashClass.ASSERT,
        (b"' failed.",),
        header(
            r"\S+: (?P<place>[^\s:]+):\d+: (?:(?P<function>.+?): )?"
            r"Assertion [`'](?P<what>.*)' failed\."
        ),
        "Assertion `{what}' failed",
        b"probe: src/c.c:28: main: Assertion `zero==1' failed.",
        "Assertion `zero==NUM' failed",
        ends=Ends.LINE,
        user=True,
    ),
    Format(
        CrashClass.PYTHON,
        (b"Traceback (most recent call last):",),
        header(r"Traceback \(most recent call last\):"),
        "{what} in {frame}",
        b'Traceback (most recent call last):\n  File "/r.py", line 3, in <module>\n    boom()\n'
        b"ValueError: no such request",
        "ValueError: no such request in <module>",
        _USER,
        details=(
            header(
                r"(?P<what>[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Timeout)\b.*)"
            ),
        ),
        bare=("Python traceback",),
        ends=Ends.IDLE,
        user=True,
        needs=True,
    ),
    # base/logging.cc of Chromium, and glog
    Format(
        CrashClass.FATAL_LOG,
        (b"FATAL:", b"heck failed: "),
        header(
            r"(?:.*\bFATAL:(?P<place>[^\s()]+)\(\d+\)\] |F\d{4} \S+ +\d+ (?P<file>\S+):\d+\] )"
            r"(?P<what>.*)"
        ),
        "{what}",
        b"[1:1:0101/101010.123:FATAL:latency_info.cc(159)] Check failed: !terminated_. ",
        "Check failed: !terminated_.",
        ends=Ends.IDLE,
        user=True,
    ),
    # V8's base/logging.cc
    Format(
        CrashClass.FATAL_LOG,
        (b"atal error",),
        header(r"# Fatal error in (?P<place>[^,]+)(?:, line \d+)?"),
        "Fatal error: {what} in {place}",
        b"# Fatal error in ../src/objects.h, line 12\n# Check failed: IsMap().",
        "Fatal error: Check failed: IsMap(). in ../src/objects.h",
        details=(header(r"# (?P<what>\S.*)"),),
        bare=("Fatal error in {place}",),
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.FATAL_LOG,
        (b"Exception",),
        header(r"(?:== Java Exception: |Exception in thread \".*?\" )(?P<what>[\w.$]+(?:: .*)?)"),
        "{what}",
        b'Exception in thread "main" java.lang.IllegalStateException: closed',
        "java.lang.IllegalStateException: closed",
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.SIGNAL,
        (b"received signal SIG",),
        header(r"(?:Program|Thread .*) received signal (?P<word_name>SIG\w+)"),
        "{word_name} in {frame}",
        b"Program received signal SIGTRAP, Trace/breakpoint trap.\n#0  spin (n=3) at spin.c:12",
        "SIGTRAP in spin",
        _USER,
        bare=("{word_name} under a debugger",),
        ends=Ends.IDLE,
        user=True,
    ),
    Format(
        CrashClass.FATAL_LOG,
        (b"SYZFAIL: ",),
        header(r"SYZFAIL: (?P<what>.*)"),
        "SYZFAIL: {what}",
        b"SYZFAIL: SIGSEGV",
        "SYZFAIL: SIGSEGV",
        ends=Ends.LINE,
        user=True,
    ),
    Format(
        CrashClass.SEGFAULT_LINE,
        (b"segfault at ",),
        header(r"(?P<comm>.{1,15})\[\d+\]: segfault at [0-9a-f]+ ip "),
        "segfault in {comm}",
        b"probe[92]: segfault at 0 ip 0000000000401701 sp 00007ffe7dce2f18 error 6",
        "segfault in probe",
        ends=Ends.LINE,
    ),
    Format(
        CrashClass.SEGFAULT_LINE,
        (b"traps: ",),
        header(
            r"traps: (?P<comm>.{1,15})\[\d+\](?: trap)? (?P<what>[a-z][a-z0-9 ]*?) ip:[0-9a-f]+"
        ),
        "{what} in {comm}",
        b"traps: probe[92] trap divide error ip:401ad6 sp:7ffff0f3eed0 error:0",
        "divide error in probe",
        ends=Ends.LINE,
    ),
)
