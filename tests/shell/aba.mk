# What `aba load` and `aba bundle` have make do: call the same tool again.

.PHONY: load bundle

load:
	@"$(ABA)" -d "$(DIR)" --nested load

bundle:
	@"$(ABA)" -d "$(DIR)" save
