# A make tree with kbuild's habits, small enough to build in a second: O=, .config, objects compiled
# with -D__KERNEL__, thin archives, a part that is linked by itself and then embedded (as the vDSO
# is), and an image that can be run: an ordinary program.
ifneq ($(O),)
MAKEFLAGS += --no-print-directory
source := $(CURDIR)
.DEFAULT_GOAL := all
%: ; @mkdir -p $(O) && $(MAKE) -C $(O) -f $(source)/Makefile O= srctree=$(source) $@
Makefile: ;
else
flags := -D__KERNEL__ -O1 -fno-pic
members := $(patsubst $(srctree)/%.c,%.o,$(wildcard $(srctree)/core/*.c $(srctree)/fs/*.c))
parts := $(patsubst $(srctree)/%.c,%.o,$(wildcard $(srctree)/vdso/*.c))

.DELETE_ON_ERROR:
image_name: ; @echo boot/image
olddefconfig: ; @test -f .config
image: boot/image

$(members) $(parts): %.o: $(srctree)/%.c
	@mkdir -p $(@D)
	$(CC) $(flags) -Wp,-MMD,$(@D)/.$(@F).d -c -o $@ $<
	@echo 'savedcmd_$@ := $(CC)' >$(@D)/.$(@F).cmd
vdso/vdso.so: $(parts)
	ld -r -o $@ $^
	! nm -u $@ | grep .
vdso-image.c: vdso/vdso.so
	{ echo 'const unsigned char vdso_image[] = {'; od -An -v -tx1 $< | sed 's/ \(..\)/0x\1,/g'; echo '};'; \
	  echo 'const unsigned long vdso_size = sizeof(vdso_image);'; } >$@
vdso-image.o: vdso-image.c
	$(CC) $(flags) -c -o $@ $<
vmlinux.a: $(members) vdso-image.o
	rm -f $@; ar cDPrST $@ $^
boot/image: vmlinux.a
	@mkdir -p boot
	gcc -no-pie -o $@ -Wl,--whole-archive vmlinux.a -Wl,--no-whole-archive
-include $(foreach o,$(members) $(parts),$(dir $(o)).$(notdir $(o)).d)
endif
