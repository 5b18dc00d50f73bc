#!/bin/sh
# One trial, on this machine: exit 0 is survived, 125 could not be run, anything else crashed
# (but 126 and 127, no such command, end the search). Several run side by side.
# $CULPRIT_BAD is a file with the names that are bad this time, one a line; $REPRO_SEED differs
# with each trial. This one stands for a program that crashes in about 4 of 10 runs, if
# stack-slots is among the bad ones.
[ -r "$CULPRIT_BAD" ] || exit 125
grep -qx stack-slots "$CULPRIT_BAD" || exit 0
case $REPRO_SEED in
    [0-5]*) exit 3 ;;
    *) exit 0 ;;
esac
