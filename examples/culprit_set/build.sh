#!/bin/sh
# Builds with the names in $CULPRIT_BAD bad: what it builds is at $CULPRIT_OUTPUT afterwards.
# Any exit status but 0 says that this subset cannot be built; that is never taken for good.
if grep -qx stack-slots "$CULPRIT_BAD"; then
    bad=1
else
    bad=0
fi
cat >"$CULPRIT_OUTPUT" <<END
#!/bin/sh
case $bad\$REPRO_SEED in
    1[0-5]*) kill -SEGV \$\$ ;;
esac
END
chmod +x "$CULPRIT_OUTPUT"
