//! Sample histories for the checker: right ones, and a wrong one for each rule, because a checker that cannot fail proves nothing.

use crate::checker::{check, hash_lines};

/// Each sample: its description, its lines without the time, and a part of the expected message, which is empty if the history
/// is right.
const HISTORIES: &[(&str, &str, &str)] = &[
    ("one after the other", "1 enter a exclusive 7;1 leave a;2 enter a exclusive 7;2 leave a", ""),
    ("two at once", "1 enter a exclusive 7;2 enter a exclusive 7", "two holders"),
    ("two who share", "1 enter a shared 7;2 enter a shared 7;1 leave a;2 leave a", ""),
    ("one who shares with one who does not", "1 enter a shared 7;2 enter a exclusive 7", "two holders"),
    ("another after one was killed", "1 enter a exclusive 7;1 doom;2 enter a exclusive 7;2 leave a", ""),
    ("one who lives on", "1 enter a exclusive 7;1 doom;2 enter a exclusive 7;1 leave a", "still inside"),
    ("two files, one removed", "1 enter a exclusive 7;d remove a 7;d removed a 7;2 enter a exclusive 8", ""),
    ("two files, none removed", "1 enter a exclusive 7;2 enter a exclusive 8", "two holders"),
    (
        "let in on a removed file",
        "1 enter a exclusive 7;d remove a 7;d removed a 7;1 leave a;2 enter a exclusive 7",
        "taken away before",
    ),
    (
        "two locks, one file removed before the other was granted",
        "1 enter h exclusive 5;d remove c 7;d removed c 7;1 leave h;2 enter c exclusive 7;2 enter h exclusive 5;2 together c 7 h 5",
        "before its last grant",
    ),
    (
        "two locks, one file removed after both were granted",
        "1 enter h exclusive 5;1 leave h;2 enter c exclusive 7;2 enter h exclusive 5;2 together c 7 h 5;d remove c 7;d removed c 7",
        "",
    ),
    ("out without in", "1 leave a", "without having entered"),
    ("ended inside", "1 enter a exclusive 7;1 done 0", "without a word"),
    ("refused for another", "1 tries r:a;2 tries r:a;2 busy r:a aba-lock: a is already running: pid 7", ""),
    ("refused for another, as flock(1)", "1 tries d/a;2 tries d/a;2 busy d/a", ""),
    ("refused without a message", "1 tries a;2 tries a;2 busy a", "without a holder"),
    ("refused because of another failure", "1 tries a;2 tries a;2 busy a aba-lock: cannot lock a", "without a holder"),
    ("refused for one who had gone", "1 tries d/a;1 done 0;2 tries d/a;2 busy d/a", "no other process wanted"),
    ("free while it is held", "1 enter a exclusive 7;2 ask status a;2 free a", "all the time"),
    ("free before it is held", "2 ask status a;1 enter a exclusive 7;2 free a;1 leave a", ""),
    ("free to share", "1 enter a shared 7;2 ask wait;2 free a shared", ""),
    ("free to share while it is held", "1 enter a exclusive 7;2 ask wait;2 free a shared", "all the time"),
    ("two slots", "1 enter a slot:2:1 7;2 enter a slot:2:2 7;3 enter a shared 7;1 leave a;3 enter a slot:2:1 7", ""),
    ("two in one slot", "1 enter a slot:2:1 7;2 enter a slot:2:1 7", "two in one slot"),
    ("one slot too many", "1 enter a slot:2:1 7;2 enter a slot:2:2 7;3 enter a slot:2:3 7", "is in slot 3 of 2"),
    ("without a slot", "1 enter a slot:2:none 7", "is in slot 0 of 2"),
    ("two numbers of slots", "1 enter a slot:2:1 7;2 enter a slot:3:2 7", "two numbers of slots"),
    ("a slot and the whole lock", "1 enter a slot:2:1 7;2 enter a exclusive 7", "two holders"),
    ("a slot of one who was killed", "1 enter a slot:2:1 7;1 doom;2 enter a slot:2:1 7;2 leave a", ""),
    ("refused a slot", "1 tries a 2;2 tries a 2;3 tries a 2;3 busy a aba-lock: a is held", ""),
    ("refused a slot that was free", "1 tries a 2;3 tries a 2;3 busy a aba-lock: a is held", "1 others wanted its 2"),
    ("refused a slot for the whole lock", "1 tries a;3 tries a 2;3 busy a aba-lock: a is held", ""),
    ("refused for another number", "1 tries a 2;2 tries a 3;2 differs a 2 3", ""),
    ("refused for its own number", "1 tries a 2;2 tries a 2;2 differs a 2 2", "because of Some(2) slots"),
    ("refused for a number of no process", "1 tries a 3;2 tries a 3;2 differs a 2 3", "because of Some(2) slots"),
    (
        "a lock taken away at its limit",
        "1 limits 0;1 ask lock;1 enter a exclusive 7;2 enter a exclusive 7;1 done 137",
        "",
    ),
    ("a lock taken away before its limit", "1 limits 5;1 enter a exclusive 7;2 enter a exclusive 7", "two holders"),
    ("ended before its limit", "1 limits 5;1 enter a exclusive 7;1 done 137", "without a word"),
    (
        "one who lives on after its limit",
        "1 limits 0;1 enter a exclusive 7;2 enter a exclusive 7;1 leave a",
        "still inside",
    ),
    ("not ended at the limit", "1 limits 0;1 enter a exclusive 7;1 overstays a", "was not ended"),
    ("not told of a lost lock", "1 enter a exclusive 0;1 leave a;1 untold a", "got no signal"),
    ("a wrong record", "1 enter a exclusive 7;1 mistaken a the slot is 2", "the slot is 2"),
    (
        "replaced",
        "1 tries a;1 uses a plain;1 enter a exclusive 7;2 tries a;2 uses a replace;2 enter a exclusive 7;1 done 143;2 leave a",
        "",
    ),
    (
        "replaced by none",
        "1 tries a;1 uses a plain;1 enter a exclusive 7;2 tries a;2 uses a plain;2 enter a exclusive 7",
        "two holders",
    ),
    (
        "replaced before it asked",
        "2 tries a;2 uses a replace;2 done 75;1 tries a;1 uses a plain;1 enter a exclusive 7;1 done 143",
        "ended by a signal",
    ),
    (
        "a holder that lives on after it was replaced",
        "1 tries a;1 uses a plain;1 enter a exclusive 7;2 tries a;2 uses a replace;2 enter a exclusive 7;1 leave a",
        "still inside",
    ),
    ("signalled by none", "1 tries a;1 uses a replace;1 done 143", "ended by a signal"),
    (
        "signalled by the child of an actor that was killed",
        "2 tries a;2 uses a replace child;2 doom;2 done 137;1 tries a;1 uses a plain;1 done 143",
        "",
    ),
    (
        "gave up for a newer one",
        "1 tries a;1 uses a replace;2 tries a;2 uses a replace;1 yields a;1 done 75;2 enter a exclusive 7;2 leave a;2 done 0",
        "",
    ),
    ("gave up for none", "1 tries a;1 uses a replace;1 yields a", "and there is none"),
    (
        "gave up for one that had run",
        "2 tries a;2 uses a replace;2 enter a exclusive 7;2 leave a;1 tries a;1 uses a replace;1 yields a",
        "and there is none",
    ),
    (
        "gave up for an earlier one",
        "3 tries a;3 uses a plain;3 enter a exclusive 7;2 tries a;2 uses a replace;3 peeks a;3 sees a ticket:0 2;1 tries a;1 uses a replace;1 yields a",
        "and there is none",
    ),
    (
        "an older one runs",
        "3 tries a;3 uses a plain;3 enter a exclusive 7;1 tries a;1 uses a replace;3 peeks a;3 sees a ticket:0 1;2 tries a;2 uses a replace;3 peeks a;3 sees a ticket:1 2;1 enter a exclusive 7",
        "with a newer ticket",
    ),
    (
        "a newer one may have come later",
        "3 tries a;3 uses a plain;3 enter a exclusive 7;1 tries a;1 uses a replace;3 peeks a;3 sees a ticket:0 1;2 tries a;2 uses a replace;3 peeks a;3 sees a ticket:0 1;1 enter a exclusive 7;2 enter a exclusive 7;2 leave a",
        "",
    ),
    (
        "all gave up",
        "1 tries a;1 uses a replace;2 tries a;2 uses a replace;1 yields a;1 done 75;2 yields a;2 done 75",
        "all other callers",
    ),
    (
        "gave up and ran",
        "1 tries a;1 uses a replace;2 tries a;2 uses a replace;1 enter a exclusive 7;1 yields a",
        "and it had run",
    ),
    (
        "covered by a later run",
        "1 tries a;1 uses a coalesce forever;2 tries a;2 uses a coalesce forever;2 done 0;1 enter a exclusive 7;1 leave a;1 done 0",
        "",
    ),
    (
        "covered by an earlier run",
        "1 tries a;1 uses a coalesce forever;1 enter a exclusive 7;2 tries a;2 uses a coalesce forever;2 done 0;1 leave a;1 done 0",
        "no run of a followed",
    ),
    (
        "covered by one that did not run",
        "1 tries a;1 uses a coalesce forever;2 tries a;2 uses a coalesce forever;2 done 0;1 done 75",
        "no run of a followed",
    ),
    (
        "covered by one with a timeout",
        "1 tries a;1 uses a coalesce limited;2 tries a;2 uses a coalesce forever;2 done 0;1 enter a exclusive 7",
        "no run of a followed",
    ),
    (
        "covered by an actor that was killed",
        "1 tries a;1 uses a coalesce forever;2 tries a;2 uses a coalesce forever;2 done 0;1 doom;1 done 137;0 owed a",
        "",
    ),
    (
        "owed by none",
        "1 tries a;1 uses a coalesce forever;1 enter a exclusive 7;1 leave a;1 done 0;0 owed a",
        "is owed",
    ),
    (
        "ran twice",
        "1 tries a;1 uses a coalesce forever;1 enter a exclusive 7;1 leave a;1 enter a exclusive 7",
        "ran twice under",
    ),
    ("status 0 without the lock", "1 tries a;1 uses a coalesce forever child returns;1 done 0", "did it run"),
    (
        "two wait for the next run",
        "1 tries a;1 uses a coalesce forever;1 enter a exclusive 7;2 tries a;2 uses a coalesce forever;3 tries a;3 uses a coalesce forever;1 peeks a;1 sees a queue:2",
        "2 callers wait",
    ),
    (
        "one of two has a timeout",
        "1 tries a;1 uses a coalesce forever;1 enter a exclusive 7;2 tries a;2 uses a coalesce limited;3 tries a;3 uses a coalesce forever;1 peeks a;1 sees a queue:2;1 leave a",
        "",
    ),
    (
        "covered by a success",
        "1 tries a;1 uses a strict forever;2 tries a;2 uses a strict forever;2 enter a exclusive 7;2 leave a;1 done 0",
        "",
    ),
    (
        "covered by a failure",
        "1 tries a;1 uses a strict forever;2 tries a;2 uses a strict forever;2 enter a exclusive 7;2 fails a;2 leave a;1 done 0",
        "no run of a succeeded",
    ),
    (
        "covered by a run that goes on",
        "1 tries a;1 uses a strict forever;2 tries a;2 uses a strict forever;2 enter a exclusive 7;1 done 0",
        "no run of a succeeded",
    ),
    (
        "a higher one waits",
        "1 tries a;1 uses a low forever;1 enter a exclusive 7;2 tries a;2 uses a high forever;3 tries a;3 uses a low forever;1 peeks a;1 sees a high;1 leave a;3 enter a exclusive 7",
        "with a higher priority",
    ),
    (
        "a higher one runs first",
        "1 tries a;1 uses a low forever;1 enter a exclusive 7;2 tries a;2 uses a high forever;3 tries a;3 uses a low forever;1 peeks a;1 sees a high;1 leave a;2 enter a exclusive 7;2 leave a;3 enter a exclusive 7",
        "",
    ),
    (
        "a higher one may have given up",
        "1 tries a;1 uses a low forever;1 enter a exclusive 7;2 tries a;2 uses a high limited;3 tries a;3 uses a low forever;1 peeks a;1 sees a high;1 leave a;3 enter a exclusive 7",
        "",
    ),
    (
        "a higher one was killed",
        "1 tries a;1 uses a low forever;1 enter a exclusive 7;2 tries a;2 uses a high forever;3 tries a;3 uses a low forever;1 peeks a;1 sees a high;1 leave a;2 doom;3 enter a exclusive 7",
        "",
    ),
    (
        "one without a priority passes",
        "1 tries a;1 uses a low forever;1 enter a exclusive 7;2 tries a;2 uses a high forever;3 tries a;3 uses a unnamed forever;1 peeks a;1 sees a high;1 leave a;3 enter a exclusive 7",
        "",
    ),
    (
        "a want of none",
        "1 tries a;1 uses a low forever;1 enter a exclusive 7;1 peeks a;1 sees a high",
        "and there is none",
    ),
    ("an update", "1 adds f x;1 added f x;2 adds f y;2 added f y;0 content f x y", ""),
    ("a lost update", "1 adds f x;1 added f x;2 adds f y;2 added f y;0 content f y", "lost update"),
    ("an update that failed and is there", "1 adds f x;1 refused f x;0 content f x", "its update failed"),
    ("an update twice", "1 adds f x;1 added f x;0 content f x x", "twice in"),
    ("out of nowhere", "0 content f x", "no actor added"),
    ("out of order", "1 adds f x;1 added f x;2 adds f y;2 added f y;0 content f y x", "came after it"),
    ("a reader too early", "1 adds f x;1 added f x;2 reads f;2 read f 0 EMPTY;0 content f x", "did not see x"),
    ("a reader of half a file", "1 adds f x;1 added f x;2 reads f;2 read f 1 EMPTY;0 content f x", "never in"),
    ("once", "1 begin t;1 end t 0;2 finished t", ""),
    ("twice", "1 begin t;1 end t 0;2 begin t", "run twice"),
    ("twice at once", "1 begin t;2 begin t", "twice at once"),
    ("again after a failure", "1 begin t;1 end t 3;2 begin t;2 end t 0", ""),
    ("again after a reset", "1 begin t;1 end t 0;3 forgets t;3 forgot t;2 begin t;2 end t 0", ""),
    ("twice after a reset", "3 forgets t;3 forgot t;1 begin t;1 end t 0;2 begin t", "run twice"),
    ("next to a run that must have ended", "1 begin t;1 doom;2 begin t;1 end t 0", "lived on"),
    ("ended by a reset", "1 begin t;3 forgets t;2 begin t;2 end t 0", ""),
    ("not ended by a reset", "1 begin t;3 forgets t;2 begin t;1 end t 0", "lived on"),
    ("ended by a reset that was killed", "3 forgets t;3 doom;3 forgot t;1 begin t;2 begin t;2 end t 0", ""),
    (
        "a later run than that of a killed reset",
        "3 forgets t;3 doom;3 forgot t;1 begin t;1 end t 3;2 begin t;4 begin t",
        "twice at once",
    ),
    ("a success that never was", "1 begin t;1 end t 3;2 finished t", "never succeeded"),
    ("two numbers", "1 wants p k;1 keeps p k 1;2 wants p l;2 keeps p l 2;3 wants p k;3 keeps p k 1", ""),
    ("a number twice", "1 wants p k;1 keeps p k 1;2 wants p l;2 keeps p l 1", "keeps it"),
    ("another number", "1 wants p k;1 keeps p k 1;2 wants p k;2 keeps p k 2", "was given 2"),
    ("a number again", "1 wants p k;1 keeps p k 1;3 releases p k;3 released p k;2 wants p l;2 keeps p l 1", ""),
    ("leased and kept", "1 wants p k;1 keeps p k 1;2 enter number:p:1 exclusive 0", "which k keeps"),
    ("kept and leased", "2 enter number:p:1 exclusive 0;1 wants p k;1 keeps p k 1", "is leased"),
    ("no line", "1", "not a line"),
];

/// Checks all samples, and returns their number and the ones with an unexpected result.
pub(crate) fn check_samples() -> (usize, Vec<String>) {
    let empty = hash_lines(std::iter::empty()).to_string();
    let mut wrong = Vec::new();
    for (what, lines, expected) in HISTORIES {
        let lines = lines.replace("EMPTY", &empty);
        let stamped: Vec<String> = lines.split(';').map(|line| format!("0 {line}")).collect();
        let broken = check(&stamped.join("\n"));
        let right = match broken.first() {
            None => expected.is_empty(),
            Some(first) => !expected.is_empty() && first.why.contains(expected),
        };
        if !right {
            wrong.push(format!("the checker on {what:?}: expected {expected:?}, and it said {broken:?}"));
        }
    }
    (HISTORIES.len(), wrong)
}
