# Installs aba-lock: the helper, the shell library, completions and man pages.

PREFIX  ?= /usr/local
DESTDIR ?=

BINDIR  := $(DESTDIR)$(PREFIX)/bin
DATADIR := $(DESTDIR)$(PREFIX)/share
LIBDIR  := $(DATADIR)/aba-lock
BASHDIR := $(DATADIR)/bash-completion/completions
ZSHDIR  := $(DATADIR)/zsh/site-functions
FISHDIR := $(DATADIR)/fish/vendor_completions.d
MANDIR  := $(DATADIR)/man
UNITDIR := $(DESTDIR)$(PREFIX)/lib/systemd/system

# `yes` installs what is for more than one machine, too.
WITH_SERVICE ?=

CARGO   ?= cargo
HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
OUT     := target/$(HOST)/release
MAN     := target/man

# The service is a package of its own: built or not, the helper is the same.
SERVICE_PROFILE ?= service
SERVICE_OUT := target/$(if $(filter dev,$(SERVICE_PROFILE)),debug,$(SERVICE_PROFILE))

# Static and at a fixed address: there is nothing to link and nothing to relocate at start-up, which is most of what a
# helper that runs for half a millisecond does. It also runs on systems older than this one.
ifneq (,$(findstring linux-gnu,$(HOST)))
STATIC := -C target-feature=+crt-static -C relocation-model=static
endif

SHELL_FILES := shell/aba-lock.bash shell/run_once.bash completions/aba-lock.bash .ci/run tests/run tests/tools tests/demo \
               tests/shell/helper.bash tests/shell/aba benches/plain.bash $(wildcard tests/shell/*.bats)

.DEFAULT_GOAL := all
ifeq (yes,$(WITH_SERVICE))
install: service
endif

.PHONY: all build service man test lint format bench bench-service demo install uninstall clean help

all: build man ## Build the helper and the man pages

build: need-cargo ## Build the helper: static, stripped
	RUSTFLAGS="$(STATIC) $(RUSTFLAGS)" $(CARGO) build --release --locked --quiet --target $(HOST) --bin aba-lock

service: need-cargo ## Build the lock service (`make install WITH_SERVICE=yes` installs it)
	$(CARGO) build --locked --quiet --profile $(SERVICE_PROFILE) -p aba-lockd

man: need-cargo ## Write the man pages into target/man
	@mkdir -p $(MAN)
	$(CARGO) run --locked --quiet --features man --bin aba-lock-man -- $(MAN)
	@cp shell/*.7 $(MAN)/

test: build man ## Run all tests; fetches the tools that they need, or says which are missing
	@tests/tools install test
	@ABA_LOCK_BIN="$(CURDIR)/$(OUT)/aba-lock" tests/run

lint: need-cargo man ## Check formatting, lints, docs, shell scripts and man pages
	@tests/tools install lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --quiet --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked --quiet --all-targets -p aba-lockd -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --quiet --no-deps --document-private-items --lib
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --quiet --no-deps --document-private-items -p aba-lockd
	shellcheck -o all -x $(filter-out %.bats,$(SHELL_FILES))
	@# Tests write scripts in quotes, and pass several options in one variable.
	shellcheck -x -e SC2016,SC2086,SC2097,SC2098,SC2209 $(filter %.bats,$(SHELL_FILES))
	shfmt -d $(SHELL_FILES)
	mandoc -T lint -W warning $(MAN)/*.1 $(MAN)/*.7 $(MAN)/*.8

format: ## Format all sources
	$(CARGO) fmt --all
	shfmt -w $(SHELL_FILES)

bench: build ## Compare the helper with flock(1) and with plain bash, in one run
	ABA_LOCK_BIN="$(CURDIR)/$(OUT)/aba-lock" $(CARGO) bench --locked --quiet

bench-service: need-cargo ## Measure the lock service: how fast it is, and what locks cost, up to 100,000
	$(CARGO) bench --locked --quiet --profile $(SERVICE_PROFILE) -p aba-lockd --bench service -- $(BENCH_ARGS)

demo: ## Show two scripts that contend for one operation (after `make install`)
	@PATH="$(PREFIX)/bin:$$PATH" tests/demo "$(PREFIX)/share/aba-lock/aba-lock.bash"

install: all ## Install under PREFIX [/usr/local], for packagers inside DESTDIR
	install -Dm755 $(OUT)/aba-lock $(BINDIR)/aba-lock
	install -Dm644 shell/aba-lock.bash $(LIBDIR)/aba-lock.bash
	install -Dm644 shell/run_once.bash $(LIBDIR)/run_once.bash
	install -Dm644 completions/aba-lock.bash $(BASHDIR)/aba-lock
	install -Dm644 completions/_aba-lock $(ZSHDIR)/_aba-lock
	install -Dm644 completions/aba-lock.fish $(FISHDIR)/aba-lock.fish
	install -d $(MANDIR)/man1 $(MANDIR)/man7
	install -m644 $(MAN)/*.1 $(MANDIR)/man1
	install -m644 $(MAN)/*.7 $(MANDIR)/man7
ifeq (yes,$(WITH_SERVICE))
	install -Dm755 $(SERVICE_OUT)/aba-lockd $(BINDIR)/aba-lockd
	install -Dm644 $(MAN)/aba-lockd.8 $(MANDIR)/man8/aba-lockd.8
	install -Dm644 src/bin/aba-lockd/dist/aba-lockd.service $(UNITDIR)/aba-lockd.service
	sed -i 's|/usr/local/bin/|$(PREFIX)/bin/|' $(UNITDIR)/aba-lockd.service
endif

uninstall: ## Remove what `make install` put there
	rm -f $(BINDIR)/aba-lock $(BASHDIR)/aba-lock $(ZSHDIR)/_aba-lock $(FISHDIR)/aba-lock.fish
	rm -f $(LIBDIR)/aba-lock.bash $(LIBDIR)/run_once.bash $(MANDIR)/man1/aba-lock.1 $(MANDIR)/man1/aba-lock-*.1
	rm -f $(MANDIR)/man7/aba-lock.bash.7 $(MANDIR)/man7/run_once.bash.7 $(MANDIR)/man7/aba-lock-reserve.7
	rm -f $(BINDIR)/aba-lockd $(MANDIR)/man8/aba-lockd.8 $(UNITDIR)/aba-lockd.service
	-rmdir $(LIBDIR) 2>/dev/null

clean: ## Remove what was built
	$(CARGO) clean

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: need-cargo
need-cargo:
	@tests/tools need cargo
