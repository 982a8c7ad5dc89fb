complete --keep-order --exclusive --command aba-lock --arguments "(ABA_LOCK_COMPLETE=fish aba-lock -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
