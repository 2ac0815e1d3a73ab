# make demo       installs what is missing, builds, and shows FTP through NAT without and with ftpalg
# make test       installs what is missing, and runs every test, some of them again under Debian's own kernel
# make fuzz       runs the fuzz targets for FUZZ_SECONDS, 15 if nothing is said; make test does so as well
# make load       10,000 sessions at the same time and 100,000 transfers, twice, and once more with a daemon that is killed:
#                 some fifteen minutes
# make soak       half an hour of real programs, bad wires, kills and reloads; SOAK=SECONDS for less or more
# make bench      ftpalg beside the kernel's helper, conntrackd's and a bare queue: rewrites the figures of
#                 docs/performance.md, in some ten minutes on a quiet machine
# make build      the daemon: target/release/ftpalg
# make deb        the Debian package: target/debian/ftpalg_VERSION_ARCHITECTURE.deb
# make install    into PREFIX and /etc (as root, after make build); DESTDIR for packagers
# make uninstall  all of that but the configuration
# make clean
#
# PACKAGES=no leaves out the installing, for systems other than Debian; VM=no the tests under Debian's kernel, which run
# in a virtual machine, on x86-64 only. Nothing here starts a service.

PREFIX ?= /usr/local
PACKAGES ?= yes
VM ?= $(if $(filter x86_64,$(shell uname -m)),yes,no)
CARGO ?= cargo

SBINDIR = $(PREFIX)/sbin
UNITDIR = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
DOCDIR = $(PREFIX)/share/doc/ftpalg
MANDIR = $(PREFIX)/share/man
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d
COMPLETIONS = $(addprefix $(DESTDIR),$(BASHDIR)/ftpalg $(ZSHDIR)/_ftpalg $(FISHDIR)/ftpalg.fish)

BINARY = $(or $(CARGO_TARGET_DIR),target)/release/ftpalg
BENCH = $(BINARY)-bench
# Network namespaces need root. Only the programs run as root, never the compiler.
SUDO := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo)
AS_ROOT = $(if $(SUDO),"sudo"$(comma) "-E"$(comma) )
comma = ,
TEST_RUNNER = --config 'target."cfg(unix)".runner = [$(AS_ROOT)"$(CURDIR)/scripts/run-tests"]'
# A newer clippy knows more lints than the one that this was written with; those fail in CI alone.
ifneq ($(CI),)
STRICT = -- -D warnings
endif
# Most tests wait for the network most of the time.
TEST_THREADS ?= 6
FUZZ_SECONDS ?= 15
SOAK ?= 1800
UNPACK_SERVERS = scripts/unpack-package proftpd-core usr/sbin/proftpd && \
                 scripts/unpack-package pure-ftpd usr/sbin/pure-ftpd
BUILD_PACKAGES = scripts/build-packages.txt
TEST_PACKAGES = $(BUILD_PACKAGES) scripts/test-packages.txt scripts/demo-packages.txt
ifeq ($(VM),yes)
TEST_PACKAGES += scripts/vm-packages.txt scripts/deb-packages.txt
endif

.PHONY: help build bench demo test fuzz load soak deb install uninstall clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

build:
ifeq ($(PACKAGES),yes)
	@scripts/install-packages $(BUILD_PACKAGES)
	@scripts/install-rust
endif
	$(CARGO) build --locked --release

demo:
ifeq ($(PACKAGES),yes)
	@scripts/install-packages $(BUILD_PACKAGES) scripts/demo-packages.txt
	@scripts/install-rust
endif
	$(CARGO) build --locked --release
	$(SUDO) $(BINARY) demo

test:
ifeq ($(PACKAGES),yes)
	@scripts/install-packages $(TEST_PACKAGES)
	@$(UNPACK_SERVERS)
ifeq ($(VM),yes)
	@scripts/unpack-kernel
endif
	@scripts/install-rust
endif
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets $(STRICT)
	CARGO="$(CARGO)" scripts/check-licences
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked --workspace $(TEST_RUNNER)
	CARGO="$(CARGO)" scripts/fuzz all $(FUZZ_SECONDS)
ifeq ($(VM),yes)
	CARGO="$(CARGO)" scripts/test-in-vm --locked
else
	@echo "Left out: the tests under Debian's kernel (VM=$(VM))"
endif

fuzz:
ifeq ($(PACKAGES),yes)
	@scripts/install-packages $(TEST_PACKAGES)
	@scripts/install-rust
endif
	CARGO="$(CARGO)" scripts/fuzz all $(FUZZ_SECONDS)

# In this order: a line that begins with "load" is a directive of GNU make.
soak load:
ifeq ($(PACKAGES),yes)
	@scripts/install-packages $(TEST_PACKAGES)
	@$(UNPACK_SERVERS)
	@scripts/install-rust
endif
# A second run would write over what the first has left to be read. One test after the other: each crowd has 10,000 files open.
	RUN_TESTS_AGAIN=0 FTPALG_SOAK_SECONDS=$(SOAK) $(CARGO) test --locked --release --test e2e $(TEST_RUNNER) $@:: -- --ignored --test-threads 1
	@cat $(or $(CARGO_TARGET_DIR),target)/tmp/$@.txt

bench:
ifeq ($(PACKAGES),yes)
	@scripts/install-packages $(BUILD_PACKAGES) scripts/demo-packages.txt scripts/bench-packages.txt
ifeq ($(VM),yes)
	@scripts/install-packages scripts/vm-packages.txt
	@scripts/unpack-kernel
	@scripts/unpack-package conntrackd usr/sbin/conntrackd
endif
	@scripts/install-rust
endif
	$(CARGO) build --locked --release --workspace
ifeq ($(VM),yes)
	scripts/bench-in-vm $(BENCH) $(BINARY) >$(BENCH).md
	$(SUDO) $(BENCH) all --ftpalg $(BINARY) --emulated $(BENCH).md
else
	$(SUDO) $(BENCH) all --ftpalg $(BINARY)
	@echo "Left out: the figures under Debian's kernel (VM=$(VM))"
endif

deb:
ifeq ($(PACKAGES),yes)
	@scripts/install-packages $(BUILD_PACKAGES) scripts/deb-packages.txt
	@scripts/install-rust
endif
	$(CARGO) build --locked --release
	@CARGO="$(CARGO)" scripts/make-deb $(BINARY)

install:
	@[ -x $(BINARY) ] || { echo "$(BINARY) is not there: run make build first" >&2; exit 1; }
	install -D -m 755 $(BINARY) $(DESTDIR)$(SBINDIR)/ftpalg
	install -d $(DESTDIR)$(UNITDIR)
	sed 's,/usr/local/,$(PREFIX)/,g' systemd/ftpalg.service >$(DESTDIR)$(UNITDIR)/ftpalg.service
	sed 's,/usr/local/,$(PREFIX)/,g' systemd/ftpalg-metrics.socket >$(DESTDIR)$(UNITDIR)/ftpalg-metrics.socket
	chmod 644 $(DESTDIR)$(UNITDIR)/ftpalg.service $(DESTDIR)$(UNITDIR)/ftpalg-metrics.socket
	install -D -m 644 systemd/ftpalg.sysusers $(DESTDIR)$(SYSUSERSDIR)/ftpalg.conf
	install -D -m 644 -t $(DESTDIR)$(DOCDIR) README.md CHANGELOG.md CONTRIBUTING.md LICENSE
	install -D -m 644 -t $(DESTDIR)$(DOCDIR)/systemd systemd/ftpalg.toml $(DESTDIR)$(UNITDIR)/ftpalg.service
	find docs nft-rules/examples $(wildcard monitoring) -type f ! -path 'docs/man/*' \
		-exec install -D -m 644 {} $(DESTDIR)$(DOCDIR)/{} \;
	find $(DESTDIR)$(DOCDIR) -name '*.md' -exec sed -i 's,/usr/local/,$(PREFIX)/,g' {} +
	install -D -m 644 -t $(DESTDIR)$(MANDIR)/man8 docs/man/*.8
	install -D -m 644 -t $(DESTDIR)$(MANDIR)/man5 docs/man/*.5
	install -d $(addprefix $(DESTDIR),$(BASHDIR) $(ZSHDIR) $(FISHDIR))
	$(BINARY) completions bash >$(DESTDIR)$(BASHDIR)/ftpalg
	$(BINARY) completions zsh >$(DESTDIR)$(ZSHDIR)/_ftpalg
	$(BINARY) completions fish >$(DESTDIR)$(FISHDIR)/ftpalg.fish
	chmod 644 $(COMPLETIONS)
	@if [ -e $(DESTDIR)/etc/ftpalg/ftpalg.toml ]; then \
		echo "$(DESTDIR)/etc/ftpalg/ftpalg.toml is kept as it is"; \
	else \
		install -D -m 644 -v systemd/ftpalg.toml $(DESTDIR)/etc/ftpalg/ftpalg.toml; \
	fi
ifeq ($(DESTDIR),)
	@! command -v systemd-sysusers >/dev/null || systemd-sysusers $(SYSUSERSDIR)/ftpalg.conf
	@[ ! -d /run/systemd/system ] || systemctl daemon-reload
	@echo "Installed. Next: set accept-in in /etc/ftpalg/ftpalg.toml, then systemctl enable --now ftpalg"
endif

uninstall:
ifeq ($(DESTDIR),)
	@[ ! -d /run/systemd/system ] || systemctl --quiet disable --now ftpalg-metrics.socket ftpalg.service || true
endif
	rm -f $(DESTDIR)$(SBINDIR)/ftpalg $(DESTDIR)$(UNITDIR)/ftpalg.service $(DESTDIR)$(UNITDIR)/ftpalg-metrics.socket
	rm -f $(DESTDIR)$(SYSUSERSDIR)/ftpalg.conf
	rm -f $(COMPLETIONS) $(addprefix $(DESTDIR)$(MANDIR)/,man8/ftpalg.8 man5/ftpalg.toml.5)
	rm -rf $(DESTDIR)$(DOCDIR)
ifeq ($(DESTDIR),)
	@[ ! -d /run/systemd/system ] || systemctl daemon-reload
endif
	@echo "$(DESTDIR)/etc/ftpalg is left as it is"

clean:
	$(CARGO) clean
