"""Where a stuck CPU came in: the callback below a dispatcher.

What a CPU happens to execute when a watchdog looks differs from trial to trial; the system call,
timer, work item or protocol handler that it is in does not. A dispatcher is a function that calls
through a pointer (``process_one_work``, ``call_timer_fn``, the system call entry, ...); the frame
it called is the entry.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .frames import Frame, Trace
    from .skips import Skip

_DISPATCHERS = (
    # arch/*/entry: system calls
    r"do_(fast_)?syscall_\w+|do_int80_syscall_32|do_syscall_64|do_\w*syscall_trace\w*",
    r"entry_(SYSCALL|SYSENTER|INT80)\w*|system_call\w*|sysenter_\w+|tracesys\w*|cstar_\w+",
    r"invoke_syscall|el0_svc(_\w+)?|do_el0_svc|ret_fast_syscall|syscall_(enter|return)\w*",
    r"sysret_\w+|ia32_sys\w+|ret_from_syscall\w*|handle_syscall\w*|do_trap_ecall_u",
    # kernel/workqueue.c, kernel/time, kernel/softirq.c, kernel/irq
    r"process_one_work|process_scheduled_works|worker_thread",
    r"call_timer_fn|expire_timers|_*run_hrtimer|_*hrtimer_run_queues|_*run_timers",
    r"(_*|invoke_|handle_)softirqs?\w*|_*do_softirq\w*|tasklet_action\w*",
    r"_*handle_irq_event\w*|handle_(edge|level|fasteoi)_irq|generic_handle_irq\w*",
    r"kthread|ret_from_fork\w*|smpboot_thread_fn|kernel_init|do_one_initcall",
    r"irq_work_run\w*|_*flush_smp_call_function_queue|rcu_do_batch",
    # net/core/dev.c and net/socket.c
    r"_*netif_receive_skb\w*|_*netif_rx\w*|net_rx_action|process_backlog",
    r"sock_sendmsg\w*|_*sock_(send|recv)msg\w*|sock_(do_)?ioctl|_*sys_(send|recv)\w+msg",
    # fs: the file operations
    r"(_*|k)vfs_(read|write|ioctl|open|fsync|iter_\w+)|do_(loop_)?(readv|writev|iter)\w*",
    r"(new|call)_(sync_)?(read|write)(_iter)?|do_vfs_ioctl|do_dentry_open|_*fput|____fput",
    r"full_proxy_\w+|task_work_run|_*do_fault|(call_)?mmap_region|(compat_)?(SyS|sys|ksys)_ioctl",
    r"x64_sys_call",
    r"compat_\w+_ioctl|\w+_compat_ioctl",
    r"__(x64|ia32|arm64|se|do)_(compat_)?sys_ioctl|kernfs_fop_\w+|seq_read\w*",
    r"proc_reg_\w+",
    # netlink families: net/core/rtnetlink.c, net/netlink, net/netfilter/nfnetlink.c
    r"rtnetlink_rcv_msg|genl_(family_)?rcv_msg\w*|nfnetlink_rcv_(msg|batch)|netlink_dump",
    r"genl_lock_dumpit|xfrm_user_rcv_msg|_*netlink_dump_start|cpu_startup_entry",
)
DISPATCHERS = re.compile("|".join(_DISPATCHERS))
# What the stall detectors and the timer interrupt that runs them put on top of the stack.
_INTERRUPT = re.compile(
    r"(sysvec_|asm_sysvec_|smp_(trace_)?)?apic_timer_interrupt\w*|(asm_)?sysvec_\w+|retint_\w+"
    r"|ret_from_intr|__irq_svc|__irq_usr"
    r"|common_interrupt|el1_irq\w*|el1h_64_irq\w*|gic_handle_irq|do_interrupt_handler|irq_exit\w*"
    r"|nmi_restore|end_repeat_nmi|asm_exc_nmi|\w*call_function\w*interrupt|reschedule_interrupt"
)

_DETECTION = re.compile(
    r"(hr)?timer_interrupt|update_process_times|tick_\w+|sched_show_task|nmi_\w+|rcu_\w+"
    r"|irqentry_exit|preempt_schedule_irq|watchdog_\w+|arch_timer_\w+"
)


# The grace-period thread is shown because it starves, not because it stalls.
_BYSTANDERS = frozenset({"rcu_gp_kthread"})


def _below_interrupt(frames: Sequence[Frame]) -> int:
    """The index of the frame that the first interrupt of a stack interrupted."""
    first = next((i for i, f in enumerate(frames) if _INTERRUPT.fullmatch(f.name)), None)
    if first is None or not any(_DETECTION.match(f.name) for f in frames[:first]):
        return 0
    while first < len(frames) and _INTERRUPT.fullmatch(frames[first].name):
        first += 1
    return first


def bystander(stack: Sequence[Frame]) -> bool:
    """Whether a stack is shown for another reason than that it stalls."""
    return any(frame.name in _BYSTANDERS for frame in stack)


def entered(trace: Trace, skip: Skip) -> Sequence[Frame]:
    """The candidate frames of a stall, best first."""
    for stack in trace.stacks:
        sure = [frame for frame in stack if frame.sure]
        if bystander(stack):
            continue
        below = sure[_below_interrupt(sure) :]
        calls = [frame for frame in below[:4] if frame.name.startswith("smp_call_function")]
        if calls:
            return calls
        entries = [
            frame
            for frame, caller in pairwise(below)
            if DISPATCHERS.fullmatch(caller.name)
            and not DISPATCHERS.fullmatch(frame.name)
            and frame.name not in skip
        ]
        if entries:
            return entries
        if below and below is not sure:
            return below
    return [*trace.counters, *trace.first]
