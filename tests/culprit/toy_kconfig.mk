# A kernel in miniature for the option search: the kernel's own Kconfig program settles the
# configuration, and the image is the configuration.
#   make -C SOURCE O=OBJECTS CONF=scripts/kconfig/conf olddefconfig|bzImage
export srctree := $(CURDIR)

olddefconfig:
	@cd $(O) && $(CONF) --olddefconfig Kconfig
	@if grep -q CONFIG_RESTLESS=y $(O)/.config; then \
	  if grep -q CONFIG_TICK=y $(O)/.config; then sed -i 's/CONFIG_TICK=y/# CONFIG_TICK is not set/' $(O)/.config; \
	  else sed -i 's/# CONFIG_TICK is not set/CONFIG_TICK=y/' $(O)/.config; fi; fi

bzImage:
	@echo built >> $(O)/times
	@if grep -q CONFIG_BROKEN=y $(O)/.config; then echo "broken.c:1: error: no"; exit 1; fi
	@if grep -q CONFIG_HUGE=y $(O)/.config; then cat $(O)/.config > /dev/full; fi
	@mkdir -p $(O)/arch/x86/boot
	@grep -v '^#$$' $(O)/.config > $(O)/arch/x86/boot/bzImage

.PHONY: olddefconfig bzImage
