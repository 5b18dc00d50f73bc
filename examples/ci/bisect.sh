#!/bin/sh
# git bisect run .../bisect.sh: in a kernel tree, with a reproducer that crashes now and then.
#
#     git bisect start BAD GOOD
#     REPRODUCER=~/race.c MIN_RATE=0.1 git bisect run ~/bisect.sh
#
# Exit status 0 is good, 1 is bad, 125 cannot be told: what does not build, does not boot, or is
# undecided is skipped, never blamed. MIN_RATE is how often the bad kernel crashes, or less: a good
# commit takes ln(1 - confidence) / ln(1 - MIN_RATE) trials, a bad one 1 / rate. Each step errs with
# probability at most 1 - CONFIDENCE, so with 0.995 ten steps err at most once in twenty.
set -u
make -s -j"$(nproc)" bzImage >build.log 2>&1 || exit 125
# ./ because pytest takes a bare name for a folder of tests; 125 when it cannot even start
pytest -p no:cacheprovider -q --kernel=./arch/x86/boot/bzImage --reproducer="$REPRODUCER" \
    --confidence="${CONFIDENCE:-0.995}" --repro-min-rate="${MIN_RATE:-0.05}" \
    --repro-exit=bisect
status=$?
case $status in 0 | 1) exit $status ;; *) exit 125 ;; esac
