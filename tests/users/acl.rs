//! Access control lists on a directory for locks.

use crate::place::Place;
use crate::user::{ALICE, BOB, CAROL, ROOT, STAFF, User, Way};
use std::process::Command;

/// Runs setfacl(1). Returns false if it is not installed, or if the file system has no lists.
fn set_list(place: &Place, entries: &[&str]) -> bool {
    let set = |entry: &&str| {
        let status = Command::new("setfacl").args(["-m", entry]).arg(place.root()).status();
        status.is_ok_and(|status| status.success())
    };
    let is_set = entries.iter().all(set);
    if !is_set {
        eprintln!(
            "ACCESS CONTROL LISTS WERE NOT TESTED: setfacl is not installed (package acl), or does not work in {}",
            place.root().display()
        );
    }
    is_set
}

/// A directory with a list, and what follows from it.
struct ListRow {
    owner: User,
    group: u32,
    mode: u32,
    list: &'static [&'static str],
    admitted: &'static [User],
    refused: &'static [User],
    file_mode: u32,
}

const ROWS: &[ListRow] = &[
    // Another user may write to the directory, which the bits of the group show.
    ListRow {
        owner: ALICE,
        group: STAFF,
        mode: 0o2700,
        list: &["u:61003:rwx", "d:u:61003:rwx", "d:u:61001:rwx"],
        admitted: &[ALICE, CAROL, ROOT],
        refused: &[],
        file_mode: 0o660,
    },
    // The list admits a user, and not the group of the directory, which may enter it.
    ListRow {
        owner: ALICE,
        group: STAFF,
        mode: 0o750,
        list: &["u:61003:rwx"],
        admitted: &[ALICE, CAROL, ROOT],
        refused: &[BOB],
        file_mode: 0o660,
    },
    // The owner of the directory needs an entry in the files of others.
    ListRow {
        owner: CAROL,
        group: STAFF,
        mode: 0o770,
        list: &["u:61009:rwx"],
        admitted: &[ALICE, CAROL, BOB, ROOT],
        refused: &[],
        file_mode: 0o660,
    },
    // A member of the group has fewer rights.
    ListRow {
        owner: ROOT,
        group: STAFF,
        mode: 0o770,
        list: &["u:61002:rx"],
        admitted: &[ALICE, ROOT],
        refused: &[BOB],
        file_mode: 0o660,
    },
    // One user has fewer rights than all others.
    ListRow {
        owner: ROOT,
        group: 0,
        mode: 0o1777,
        list: &["u:61003:rx"],
        admitted: &[ALICE, BOB, ROOT],
        refused: &[CAROL],
        file_mode: 0o666,
    },
    // New files would admit a user to whom the directory gives nothing.
    ListRow {
        owner: ROOT,
        group: STAFF,
        mode: 0o775,
        list: &["d:u:61003:rwx"],
        admitted: &[ALICE, BOB, ROOT],
        refused: &[CAROL],
        file_mode: 0o660,
    },
    // The mask takes the right to write away.
    ListRow {
        owner: ALICE,
        group: STAFF,
        mode: 0o750,
        list: &["u:61002:rwx", "m::rx"],
        admitted: &[ALICE, ROOT],
        refused: &[BOB, CAROL],
        file_mode: 0o600,
    },
    // A group may write to the directory.
    ListRow {
        owner: ROOT,
        group: 0,
        mode: 0o2700,
        list: &["g:61100:rwx", "d:g:61100:rwx"],
        admitted: &[ALICE, BOB, ROOT],
        refused: &[CAROL],
        file_mode: 0o660,
    },
    // New files would get a wider mode from the default list than the directory allows.
    ListRow {
        owner: ALICE,
        group: ALICE.id,
        mode: 0o755,
        list: &["d:u:61002:rwx", "d:g::rwx", "d:o::rwx"],
        admitted: &[ALICE, ROOT],
        refused: &[BOB, CAROL],
        file_mode: 0o600,
    },
    ListRow {
        owner: ROOT,
        group: STAFF,
        mode: 0o775,
        list: &["d:o::rwx"],
        admitted: &[ALICE, BOB, ROOT],
        refused: &[CAROL],
        file_mode: 0o660,
    },
    ListRow {
        owner: ROOT,
        group: 0,
        mode: 0o1777,
        list: &["d:u:61002:---", "d:g::---", "d:o::---"],
        admitted: &[ALICE, ROOT],
        refused: &[],
        file_mode: 0o666,
    },
];

#[test]
#[ignore = "needs root: make test-root"]
fn a_list_counts_as_what_the_bits_of_the_group_say() {
    let place = Place::new(ROOT.id, 0, 0o700);
    for (number, row) in ROWS.iter().enumerate() {
        for way in [Way::Helper, Way::Library, Way::Builtin] {
            for first in row.admitted {
                place.renew(row.owner.id, row.group, row.mode);
                if !set_list(&place, row.list) {
                    return;
                }
                let what = format!("row {number}, {way:?}, first {}", first.name);
                let holder = first.hold(&place, "022", way, "a").unwrap_or_else(|output| panic!("{what}: {output:?}"));
                for other in row.admitted.iter().filter(|other| *other != first) {
                    let output = other.try_lock(&place, "022", way, "a");
                    assert_eq!(output.status.code(), Some(way.busy_status()), "{what}: {}: {output:?}", other.name);
                }
                for other in row.refused {
                    let output = other.try_lock(&place, "022", way, "a");
                    assert_eq!(output.status.code(), Some(125), "{what}: {}: {output:?}", other.name);
                    assert!(output.stderr.starts_with(b"aba-lock: "), "{what}: {}: {output:?}", other.name);
                }
                holder.release();
                for file in place.files() {
                    assert_eq!(file.mode, row.file_mode, "{what}: {file:?}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_user_whom_only_a_list_admits_gets_the_step_for_new_tasks() {
    let place = Place::new(ROOT.id, STAFF, 0o700);
    if !set_list(&place, &["u:61003:rwx"]) {
        return;
    }
    let found = CAROL.call(&place, "022", &["doctor"]).stdout;
    assert!(
        String::from_utf8_lossy(&found).contains("the users and groups of its access control list share its locks")
    );
    let output = CAROL.call(&place, "022", &["run-once", "-w", "-i", "job", "--", "true"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("user 61003 is not a member of group 61100") && said.contains("chmod g+s "), "{said}");
    assert_eq!(place.files(), []);
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_file_that_bash_has_created_gets_the_list_of_its_directory() {
    let script = "exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$ABA_LOCK_BIN\" lock --fd 9 a";
    for list in [&["u:61003:rwx"][..], &["u:61003:rwx", "d:u:61002:rwx", "d:o::rwx"]] {
        let place = Place::new(ALICE.id, STAFF, 0o750);
        if !set_list(&place, list) {
            return;
        }
        let output = ALICE.program(&place, "022", &["bash", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(place.files()[0].mode, 0o660);
        assert_eq!(CAROL.try_lock(&place, "022", Way::Library, "a").status.code(), Some(0));
        assert_eq!(BOB.try_lock(&place, "022", Way::Library, "a").status.code(), Some(125));
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_directory_whose_list_gives_less_to_a_group_than_to_all_users_gets_no_files() {
    let place = Place::new(ROOT.id, 0, 0o1777);
    if !set_list(&place, &["g:61100:rx"]) {
        return;
    }
    let cause = "all users may write to its directory, but not the members of a group in the access control list\n";
    let hint =
        format!("hint: run `setfacl -m g:GROUP:rwx {0}` for each group that `getfacl {0}`", place.root().display());
    for user in [ROOT, CAROL] {
        for way in [Way::Helper, Way::Library, Way::Builtin] {
            let output = user.try_lock(&place, "022", way, "a");
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(125), "{said}");
            assert!(said.contains(cause) && said.contains(&hint), "{said}");
        }
        let found = user.call(&place, "022", &["doctor"]).stdout;
        assert!(
            String::from_utf8_lossy(&found).contains("a group in its access control list may do less"),
            "{found:?}"
        );
    }
    assert_eq!(place.files(), []);
}
