# Installs aba-lock: the helper, the shell library, completions and man pages.

PREFIX  ?= /usr/local
DESTDIR ?=
# With `yes`, the helper is also installed as `flock`, which replaces flock(1) where BINDIR comes first in PATH.
WITH_FLOCK ?= no
ifeq (,$(filter || |no| |yes|,|$(WITH_FLOCK)|))
$(error WITH_FLOCK is yes or no, and not '$(WITH_FLOCK)')
endif

# The shell library searches for its helper as in PATH, where `:` separates directories.
ifneq (,$(filter install,$(MAKECMDGOALS)))
ifneq (,$(findstring :,$(PREFIX))$(word 2,$(PREFIX)))
$(error PREFIX is '$(PREFIX)', and must not contain ':' or blanks)
endif
endif

BINDIR  := $(DESTDIR)$(PREFIX)/bin
DATADIR := $(DESTDIR)$(PREFIX)/share
LIBDIR  := $(DATADIR)/aba-lock
BASHDIR := $(DATADIR)/bash-completion/completions
ZSHDIR  := $(DATADIR)/zsh/site-functions
FISHDIR := $(DATADIR)/fish/vendor_completions.d
MANDIR  := $(DATADIR)/man
TMPFILESDIR := $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
SYSUSERSDIR := $(DESTDIR)$(PREFIX)/lib/sysusers.d
UNITDIR := $(DESTDIR)$(PREFIX)/lib/systemd/system
ARCHDIR := $(DESTDIR)$(PREFIX)/lib/aba-lock

# With `yes`, the lock service and the keeper of leases are installed, too.
WITH_SERVICE ?=
# With `yes`, the builtin for bash is installed, too.
WITH_BUILTIN ?=

CARGO   ?= cargo
MAN     := target/man
VERSION  = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# The target of the helper: by default musl, if Rust has or can get its standard library, and otherwise the C library of this system.
# The make function runs when a recipe needs the value first, after `need-target`, and once.
HELPER_TARGET ?= $(eval HELPER_TARGET := $(shell tests/tools target))$(HELPER_TARGET)
OUT      = target/$(HELPER_TARGET)/release

# The service is a separate package, so that it does not change the binary of the helper.
SERVICE_PROFILE ?= service
SERVICE_OUT := target/$(if $(filter dev,$(SERVICE_PROFILE)),debug,$(SERVICE_PROFILE))

# The keeper, which binds leases to scripts, is a separate package for the same reason. It is not static, because the C library
# loads the modules of the system to look up host names.
KEEPER_PROFILE ?= $(if $(filter dev,$(SERVICE_PROFILE)),dev,release)
KEEPER_OUT := target/$(if $(filter dev,$(KEEPER_PROFILE)),debug,$(KEEPER_PROFILE))

# The helper is static and at a fixed address, so that it needs no dynamic linking and no relocation at start-up, which would take
# most of the time of a call. It also runs on systems older than the one that built it. Without relro, a call has one page fault
# less; musl does not protect those pages anyway. The linker wrapper places the functions that run at each start next to each other:
# only lld can do that, which rustup installs, and only the names of the version 0 tell generic functions apart.
SYSROOT = $(shell rustc --print sysroot)
HOST    = $(shell rustc -vV | sed -n 's/^host: //p')
LLD     = $(SYSROOT)/lib/rustlib/$(HOST)/bin/gcc-ld
# Other systems than Linux have no static C library, and other linkers.
STATIC  = $(if $(IS_LINUX),-C target-feature=+crt-static -C relocation-model=static -C relro-level=off) \
          -C symbol-mangling-version=v0 -C force-unwind-tables=no $(if $(IS_LINUX),$(LINKER)) $(REMAP)
IS_LINUX = $(findstring -linux-,$(HELPER_TARGET))
# For another processor, cc of this system cannot link. With musl, the linker of Rust needs no other tool, but does not order functions.
LINKER  = $(if $(filter $(MACHINE)-%,$(HOST)),-C linker=src/bin/aba-lock/link/ordered-cc \
          $(if $(wildcard $(LLD)/ld.lld),-C link-arg=-B$(LLD) -C link-arg=-fuse-ld=lld),-C linker=rust-lld)
MACHINE = $(firstword $(subst -, ,$(HELPER_TARGET)))

# No program contains a directory of its builder: two checkouts in two places give the same bytes. Cargo separates the flags at
# blanks, so a directory with a blank is not replaced.
replace_directory = $(if $(word 2,$(1)),,--remap-path-prefix=$(1)=$(2))
REMAP = $(call replace_directory,$(or $(CARGO_HOME),$(HOME)/.cargo),/cargo) $(call replace_directory,$(CURDIR),/build) \
        $(call replace_directory,$(SYSROOT)/lib/rustlib/src/rust,/rustc/$(shell rustc -vV | sed -n 's/^commit-hash: //p'))

# Lints, tests and debug builds choose the same packages and features, because others would be compiled in addition. A test among the
# targets adds the features that only tests choose.
PACKAGES := --workspace --all-features
DEBUG    := $(PACKAGES) --test users

# Usage: $(call cargo_build,PROFILE,PACKAGE,TARGET)
#
# A debug build also has the flags that the tests have.
cargo_build = $(if $(filter dev,$(1)),,RUSTFLAGS="$(REMAP) $(RUSTFLAGS)") $(CARGO) build --locked --quiet --profile $(1) $(if $(filter dev,$(1)),$(DEBUG) $(3),-p $(2))

# `build`, if the helper is built in this call, too. Then it writes the man pages, if it is for this system, and no debug build is
# necessary. With CARGO=true, the pages are there.
BUILT := $(if $(T),,$(if $(filter all build install test,$(or $(MAKECMDGOALS),all)),build))
MAN_WRITER = $(if $(and $(BUILT),$(filter-out true,$(CARGO)),$(filter $(HOST:-gnu=)%,$(HELPER_TARGET))),$(OUT)/aba-lock,$(CARGO) run --locked --quiet --bin aba-lock --)

SHELL_FILES := shell/aba-lock.bash shell/aba-lock.sh shell/aba-lock-fast.bash shell/aba-lock-builtin.bash shell/run_once.bash completions/aba-lock.bash .ci/run tests/run tests/tools tests/portable-tools tests/report/run tests/report/scenes tests/report/steps tests/report/portable tests/report/aarch64 tests/demo \
               dist/install.sh dist/check-release dist/package dist/test dist/test-crate dist/test-recipes dist/test-rust $(wildcard dist/debian/*.p*) \
               tests/fuzz/run tests/counts/run src/bin/aba-lock/link/ordered-cc src/bin/aba-lock/link/note-order \
               tests/shell/helper.bash tests/shell/forms.bash tests/shell/terminal.bash tests/shell/aba benches/plain.bash $(wildcard tests/shell/*.bats)

# Files that run in the shell of another script, also in its trap handlers.
SOURCED_FILES := shell/aba-lock.bash shell/aba-lock-fast.bash shell/aba-lock-builtin.bash shell/run_once.bash completions/aba-lock.bash tests/shell/helper.bash

FUZZ_TARGETS := --edition 2024 --config-path rustfmt.toml $(wildcard tests/fuzz/targets/*.rs)

# The builtin for bash is a separate package, because it needs another profile. It is for the C library of this system, with which bash
# is linked, too.
BUILTIN_PROFILE ?= $(if $(filter dev,$(SERVICE_PROFILE)),dev,builtin)
BUILTIN_FILE := target/$(if $(filter dev,$(BUILTIN_PROFILE)),debug,$(BUILTIN_PROFILE))/libaba_lock_builtin.so

.DEFAULT_GOAL := all
ifeq (yes,$(WITH_SERVICE))
install: service keeper
endif
ifeq (yes,$(WITH_BUILTIN))
ifneq (Linux,$(shell uname -s))
$(error WITH_BUILTIN is yes, but the builtin for bash works only on Linux)
endif
install: builtin
endif

.PHONY: all build service keeper builtin man test quick test-shell test-report test-portable test-aarch64 test-root lint lint-tools lint-sources lint-man messages counts format fuzz bench bench-cluster bench-service torture torture-cluster order demo record \
        install uninstall dist test-dist clean help

all: build man ## Build the helper and the man pages

build: need-target ## Build the helper: static, stripped [HELPER_TARGET=x86_64-unknown-linux-gnu: for another target than musl]
	RUSTFLAGS="$(STATIC) $(RUSTFLAGS)" $(CARGO) build --release --locked --quiet --target $(HELPER_TARGET) --bin aba-lock

service: need-cargo ## Build the lock service (`make install WITH_SERVICE=yes` installs it)
	$(call cargo_build,$(SERVICE_PROFILE),aba-lockd,--bin aba-lockd)

keeper: need-cargo ## Build the keeper of leases (`make install WITH_SERVICE=yes` installs it)
	$(call cargo_build,$(KEEPER_PROFILE),aba-lock-keeper,--bin aba-lock-keeper)

builtin: need-cargo ## Build the builtin for bash (`make install WITH_BUILTIN=yes` installs it)
	$(call cargo_build,$(BUILTIN_PROFILE),aba-lock-builtin,--lib)

order: need-target ## Note anew which functions each call runs, for the linker (needs valgrind)
	CARGO_PROFILE_RELEASE_STRIP=debuginfo RUSTFLAGS="$(STATIC) $(RUSTFLAGS)" $(CARGO) build --release --locked --quiet --target $(HELPER_TARGET) \
		--target-dir target/order --bin aba-lock
	src/bin/aba-lock/link/note-order target/order/$(HELPER_TARGET)/release/aba-lock

man: need-cargo $(BUILT) ## Write the man pages into target/man
	@# `make dist` and the tests install with CARGO=true what is built already.
	@$(if $(filter true,$(CARGO)),,rm -rf $(MAN))
	$(MAN_WRITER) man --write $(MAN)

ifeq (,$(T))
test: build builtin man ## Run all tests, or T=NAME those with NAME in their names; fetches the tools that they need, or says which are missing
	@tests/tools install test
	@ABA_LOCK_BIN="$(CURDIR)/$(OUT)/aba-lock" BUILTIN_FILE="$(CURDIR)/$(BUILTIN_FILE)" tests/run
else
# The debug build of the helper is enough for some tests, and needs no link-time optimization.
test: need-cargo man
	@tests/tools install test
	@$(CARGO) build --locked --quiet $(DEBUG) --lib --bin aba-lock
	@ABA_LOCK_BIN="$(CURDIR)/target/debug/aba-lock" tests/run one "$(T)"
endif

quick: need-cargo ## Check formatting, and run the tests of one call of each kind, in under a minute
	@$(CARGO) fmt --all --check
	@$(CARGO) build --locked --quiet
	@ABA_LOCK_BIN="$(CURDIR)/target/debug/aba-lock" tests/run quick

test-shell: build builtin ## Run the tests of the shell library that depend on bash, with BASH_BIN=/path/to/bash [the first on PATH]
	@tests/tools install test
	@ABA_LOCK_BIN="$(CURDIR)/$(OUT)/aba-lock" BUILTIN_FILE="$(CURDIR)/$(BUILTIN_FILE)" \
		BASH_BIN="$(abspath $(BASH_BIN))" tests/run shell

test-report: ## Try aba-lock on this system, such as macOS or FreeBSD, and write a report without private data into target/report.txt
	@MAKE="$(MAKE)" tests/report/run

test-portable: need-cargo ## Run the scenes of test-report with the code for macOS and FreeBSD, on Linux, where /proc is empty [BASH_BIN]
	@CARGO="$(CARGO)" tests/report/portable

test-aarch64: need-cargo ## Run the scenes of test-report and tests/cli with the helper for 64-bit ARM, by qemu [T='scenes MODULE MODULE::NAME...': only these]
	@tests/tools install aarch64
	@$(MAKE) -s --no-print-directory build HELPER_TARGET=aarch64-unknown-linux-musl
	@CARGO="$(CARGO)" tests/report/aarch64 $(T)

test-root: need-cargo ## Run the tests with several users, as root
	@$(CARGO) build --locked --quiet $(DEBUG) --lib --bin aba-lock
	@ABA_LOCK_BIN="$(CURDIR)/target/debug/aba-lock" tests/run root

lint: lint-sources lint-man ## Check formatting, lints, docs, shell scripts and man pages

lint-tools:
	@tests/tools install lint

lint-sources: need-target lint-tools
	$(CARGO) fmt --all --check
	rustfmt --check $(FUZZ_TARGETS)
	$(CARGO) clippy --locked --quiet $(PACKAGES) --all-targets -- -D warnings
	@# The helper is shipped with musl, where some types of the C library differ. `make build` finds that, too.
	$(if $(BUILT),,$(CARGO) check --locked --quiet --lib --bin aba-lock --target $(HELPER_TARGET))
	@# Much code is only used on Linux.
	for target in $$(tests/tools ports); do \
		RUSTFLAGS="-D warnings -A dead_code -A unfulfilled_lint_expectations" \
			$(CARGO) check --locked --quiet --lib --bin aba-lock --target "$$target" || exit 1; \
	done
	@# The licences of all crates that the programs use, and where the crates come from: .deny.toml
	deny=$$(tests/tools deny) && "$$deny" --log-level error --locked --workspace --config .deny.toml check licenses bans sources
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --quiet --no-deps --document-private-items $(PACKAGES) --lib --bin aba-lockd --bin aba-lock-keeper
	@# Layers, import cycles, names, lengths of files, and the language of comments.
	$(CARGO) test --locked --quiet $(PACKAGES) --test source
	shellcheck -o all -x $(filter-out %.bats,$(SHELL_FILES))
	@# Tests write scripts in quotes, and pass several options in one variable.
	shellcheck -x -e SC2016,SC2086,SC2097,SC2098,SC2209 $(filter %.bats,$(SHELL_FILES))
	shfmt -d $(SHELL_FILES)
	@# With `pipefail`, `grep -q` that ends early can turn a match into a failure: the program before it gets SIGPIPE.
	! grep -nE '[^|]\|[[:space:]]*grep -[a-zA-Z]*q' $$(grep -l pipefail $(SHELL_FILES))
	@# In a trap handler, a bare `return` or `exit` of bash returns the status from before the trap.
	! grep -nE '(^|[[:space:];|&({\\])(return|exit)[[:space:]]*($$|#|;|\}|\)|\|\||&&)' $(SOURCED_FILES)
	@# IFS may contain digits, and `shellcheck` does not ask for quotes around numbers.
	@# Bash before 4.3 also splits a subscript in which a variable is expanded.
	! grep -nE '(^|[[:space:]])(\$$\(\(|\$$[?#!]|\$$\{[a-zA-Z0-9_#]+:?\+[^"}])' $(SOURCED_FILES)
	! grep -nE 'builtin (local|export|declare|readonly) [^#]*=\$$' $(SOURCED_FILES)
	! grep -nE '[a-zA-Z_]\[\$$' $(SOURCED_FILES)
	@# Bash before 4.4 takes characters of IFS in the brackets of a pattern literally, but not in `$${x//[0-9]/}`.
	! grep -nE '^[[:space:]]*([*?-]|'"''"')[^$$(]*\[(!|\[:|.-)[^$$(]*\)' $(SOURCED_FILES)
	! grep -nE '(==|!=) [^ ]*\[(!|\[:|.-)' shell/aba-lock.bash shell/run_once.bash
	! grep -n 'builtin read ' $(SOURCED_FILES) | grep -vE 'IFS=[^;]* builtin read|read -r -t 0'

lint-man: man lint-tools
	mandoc -T lint -W warning $(MAN)/man*/*
	@# Its exit status is 0 in spite of warnings.
	! for page in $(MAN)/man*/*; do groff -mandoc -ww -z -Tutf8 "$$page" 2>&1; done | grep .

messages: need-cargo ## Write the catalogue of all messages into tests/messages
	WRITE_MESSAGES=yes $(CARGO) test --locked --quiet $(PACKAGES) --test source -- catalogue

counts: build ## Note anew how many instructions the main calls take, with which `make test` compares (needs valgrind)
	tests/counts/run $(OUT)/aba-lock write

format: ## Format all sources
	$(CARGO) fmt --all
	rustfmt $(FUZZ_TARGETS)
	shfmt -w $(SHELL_FILES)

# Measures the helper as it is shipped. The benchmark program itself may be a debug build, because programs in C take the times.
bench: build ## Compare the helper with flock(1), plain bash and the kernel [ONLY=startup,... ROUNDS=N ARGS=--help]
	@ABA_LOCK_BIN="$(CURDIR)/$(OUT)/aba-lock" $(CARGO) run --locked --quiet --features bench --bin aba-lock-bench -- \
		$(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(wildcard $(BUILTIN_FILE)),--builtin $(BUILTIN_FILE)) $(ARGS)

fuzz: ## Fuzz what reads files: TARGET=all or one of tests/fuzz/targets, for SECONDS=60 each
	@tests/fuzz/run "$(or $(TARGET),all)" "$(or $(SECONDS),60)"

torture: build ## Kill and hinder the helper at every step, and judge random walks: MINUTES=60 [a short turn], SEED=N [random]
	@ABA_LOCK_BIN="$(CURDIR)/$(OUT)/aba-lock" ABA_TORTURE_MINUTES="$(MINUTES)" ABA_TORTURE_SEED="$(or $(SEED),random)" \
		$(CARGO) test --locked --quiet --test torture

bench-cluster: build keeper ## Compare a lock over etcd with etcdctl's, on one node on loopback
	@tests/tools install cluster
	ABA_LOCK_BIN="$(CURDIR)/$(OUT)/aba-lock" ABA_LOCK_KEEPER="$(CURDIR)/$(KEEPER_OUT)/aba-lock-keeper" \
		$(CARGO) bench --locked --quiet -p aba-lock-keeper

TORTURE_SECONDS ?= 120
torture-cluster: build ## Eight workers over etcd (3.4 and 3.5), a node killed every five seconds, for TORTURE_SECONDS [120] each
	@tests/tools install cluster
	ABA_LOCK_BIN="$(CURDIR)/$(OUT)/aba-lock" ABA_LOCK_TORTURE_SECONDS=$(TORTURE_SECONDS) \
		$(CARGO) test --locked --quiet -p aba-lock-keeper --test cluster -- torture --nocapture

bench-service: need-cargo ## Measure the lock service: how fast it is, and what locks cost, up to 100,000
	$(CARGO) bench --locked --quiet --profile $(SERVICE_PROFILE) -p aba-lockd --bench service -- $(BENCH_ARGS)

demo: ## Run a tour of ten lines, to copy (after `make install`)
	@PATH="$(PREFIX)/bin:$$PATH" tests/demo

record: build ## Record the tour and a picture of `list --watch` anew, for docs (needs python3 and tmux)
	tests/record $(OUT)/aba-lock

# True if `flock` is the link that `make install` creates, or another link to the installed helper.
FLOCK_IS_OURS = { test "$$(readlink "$(BINDIR)/flock")" = aba-lock || test "$(BINDIR)/flock" -ef "$(BINDIR)/aba-lock"; }

# macOS and FreeBSD have no `install -D`, and another `sed -i`: tests/shell/install.bats tries this with the options of all systems.
#
# Usage: $(call replace,MODE,FROM,TO): installs a file. A script that starts now must not find half of a file: after an empty library,
# it would run without its locks. A script that runs keeps the old file.
define replace
install -d $(dir $(3))
install -m$(1) $(2) $(3).new
mv -f $(3).new $(3)
endef

# Usage: $(call install_edited,FROM,EXPRESSION,TO): installs a file, edited by sed.
install_edited = sed -E $(2) $(1) >$(3).new && chmod 644 $(3).new && mv -f $(3).new $(3)

install: all ## Install under PREFIX [/usr/local], for packagers inside DESTDIR; WITH_FLOCK=yes: also as `flock`
ifeq ($(WITH_FLOCK),yes)
	@{ test ! -e "$(BINDIR)/flock" && test ! -L "$(BINDIR)/flock"; } || $(FLOCK_IS_OURS) || \
		{ echo "$(BINDIR)/flock is there, and not ours: nothing was installed" >&2; exit 1; }
endif
	$(call replace,755,$(OUT)/aba-lock,$(BINDIR)/aba-lock)
ifeq ($(WITH_FLOCK),yes)
	ln -sf aba-lock "$(BINDIR)/flock"
endif
	$(call replace,644,shell/aba-lock.bash,$(LIBDIR)/aba-lock-whole.bash)
	$(call replace,644,shell/aba-lock-fast.bash,$(LIBDIR)/aba-lock.bash)
	$(call replace,644,shell/run_once.bash,$(LIBDIR)/run_once.bash)
	$(call replace,644,shell/aba-lock.sh,$(LIBDIR)/aba-lock.sh)
	$(call replace,644,shell/aba-lock.zsh,$(LIBDIR)/aba-lock.zsh)
	$(call replace,644,shell/aba-lock.fish,$(LIBDIR)/aba-lock.fish)
	$(call replace,644,completions/aba-lock.bash,$(BASHDIR)/aba-lock)
	$(call replace,644,completions/_aba-lock,$(ZSHDIR)/_aba-lock)
	$(call replace,644,completions/aba-lock.fish,$(FISHDIR)/aba-lock.fish)
	$(call replace,644,src/bin/aba-lock/dist/aba-lock.conf,$(TMPFILESDIR)/aba-lock.conf)
	install -d $(MANDIR)/man1 $(MANDIR)/man7
	@# The pages name the files of the library.
	@for page in $(MAN)/man[17]/*; do \
		$(call install_edited,"$$page",'s#/usr/local/(bin|share)/aba-lock#$(PREFIX)/\1/aba-lock#g',"$(MANDIR)/$${page#$(MAN)/}") || exit 1; \
	done
ifeq (yes,$(WITH_SERVICE))
	$(call replace,755,$(KEEPER_OUT)/aba-lock-keeper,$(BINDIR)/aba-lock-keeper)
	$(call replace,755,$(SERVICE_OUT)/aba-lockd,$(BINDIR)/aba-lockd)
	$(call replace,644,$(MAN)/man8/aba-lockd.8,$(MANDIR)/man8/aba-lockd.8)
	$(call replace,644,src/bin/aba-lockd/dist/aba-lockd.conf,$(SYSUSERSDIR)/aba-lockd.conf)
	install -d $(UNITDIR)
	$(call install_edited,src/bin/aba-lockd/dist/aba-lockd.service,'s#/usr/local/bin/#$(PREFIX)/bin/#',$(UNITDIR)/aba-lockd.service)
endif
ifeq (yes,$(WITH_BUILTIN))
	$(call replace,644,shell/aba-lock-builtin.bash,$(LIBDIR)/aba-lock-builtin.bash)
	$(call replace,755,$(BUILTIN_FILE),$(ARCHDIR)/builtin.so)
endif

uninstall: ## Remove what `make install` put there
	@if $(FLOCK_IS_OURS); then rm -f "$(BINDIR)/flock"; fi
	rm -f $(TMPFILESDIR)/aba-lock.conf $(BINDIR)/aba-lock $(BASHDIR)/aba-lock $(ZSHDIR)/_aba-lock $(FISHDIR)/aba-lock.fish
	rm -f $(LIBDIR)/aba-lock.bash $(LIBDIR)/aba-lock-whole.bash $(LIBDIR)/aba-lock-builtin.bash $(LIBDIR)/run_once.bash $(LIBDIR)/aba-lock.sh $(LIBDIR)/aba-lock.zsh $(LIBDIR)/aba-lock.fish $(ARCHDIR)/builtin.so $(MANDIR)/man1/aba-lock.1 $(MANDIR)/man1/aba-lock-*.1
	rm -f $(MANDIR)/man7/aba-lock.bash.7 $(MANDIR)/man7/aba-lock.sh.7 $(MANDIR)/man7/run_once.bash.7 $(MANDIR)/man7/aba-lock-reserve.7 $(MANDIR)/man7/aba-lock-machines.7
	rm -f $(BINDIR)/aba-lock-keeper $(BINDIR)/aba-lockd $(MANDIR)/man8/aba-lockd.8 $(UNITDIR)/aba-lockd.service $(SYSUSERSDIR)/aba-lockd.conf
	-rmdir $(LIBDIR) $(ARCHDIR) 2>/dev/null

# The service and the keeper use the C library of this system, and are in the packages for its kind of processor only.
DIST_SERVICE = $(if $(filter $(MACHINE)-%,$(HOST)),yes)

dist: need-target ## Write the packages into target/dist: an archive, .deb, .rpm, checksums, bills of materials [HELPER_TARGET, MAINTAINER, RELEASE=yes]
	@$(if $(filter yes,$(RELEASE)),dist/check-release "$(VERSION)")
	@$(MAKE) -s --no-print-directory all $(if $(DIST_SERVICE),service keeper) HELPER_TARGET=$(HELPER_TARGET)
	@rm -rf target/dist
	@$(MAKE) -s --no-print-directory install CARGO=true HELPER_TARGET=$(HELPER_TARGET) WITH_SERVICE=$(DIST_SERVICE) DESTDIR="$(CURDIR)/target/dist/usr" PREFIX=/usr
	@$(MAKE) -s --no-print-directory install CARGO=true HELPER_TARGET=$(HELPER_TARGET) DESTDIR="$(CURDIR)/target/dist/usr-local" PREFIX=/usr/local
	@mv target/dist/usr-local/usr/local target/dist/local
	@rm -r target/dist/usr-local
	@dist/package "$(VERSION)" "$(HELPER_TARGET)"

test-dist: ## Build the packages in two places, and install and remove them in empty systems (as root: also in two releases of Debian); before a release
	@tests/tools install dist
	@CARGO="$(CARGO)" dist/test "$(VERSION)" "$(HELPER_TARGET)"
	@CARGO="$(CARGO)" dist/test-crate "$(VERSION)"
	@CARGO="$(CARGO)" dist/test-rust
	@dist/test-recipes "$(VERSION)"

clean: ## Remove what was built
	$(CARGO) clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: need-cargo need-target
need-cargo:
	@tests/tools need cargo

# A target that the caller has named needs no help: if it is missing, rustc says how to add it.
need-target: need-cargo
	@$(if $(filter file,$(origin HELPER_TARGET)),tests/tools install target)
