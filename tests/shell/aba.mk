# `aba load` and `aba bundle` run this, which calls the same tool again.

.PHONY: load bundle

load:
	@"$(ABA)" -d "$(DIR)" --nested load

bundle:
	@"$(ABA)" -d "$(DIR)" save
