# Tab completion of aba-lock for fish. The helper finds the candidates, and `aba-lock completions fish` prints this file.

function __aba_lock_complete
    command --query aba-lock; or return
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l word (commandline --current-token --cut-at-cursor)
    # Without an opening quote.
    set -l text (string trim --left --chars '\'"' -- "$word")
    set -l answer (ABA_LOCK_COMPLETE=fish command aba-lock -- $words "$text" 2>/dev/null)
    switch "$answer"
        case '*<files>'
            set -l prefix (string replace '<files>' '' -- $answer)
            set -l path (string sub --start (math (string length -- "$prefix") + 1) -- $word)
            string replace --regex '^' -- "$prefix" (complete --do-complete "'' $path")
        case '<command>'
            set -l offset (contains --index -- -- $words)
            complete --do-complete (string join -- ' ' (string escape -- $words[(math $offset + 1)..]) "$word")
        case '*'
            printf '%s\n' $answer
    end
end

complete --keep-order --exclusive --command aba-lock --arguments '(__aba_lock_complete)'
