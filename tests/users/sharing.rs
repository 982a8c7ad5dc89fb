//! The directory decides which users share its locks: every combination of a directory, the order of the users, their umask,
//! and the way in which they acquire the lock.

use crate::place::Place;
use crate::user::{ALICE, BOB, CAROL, ROOT, STAFF, User, Way};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;

/// The users who can use the locks in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharers {
    /// The owner of the directory, and root.
    Owner,
    /// The members of the group of the directory, its owner, and root.
    Group,
    Everyone,
}

/// A row of the table: a directory, and what the lock files in it must be.
#[derive(Debug, Clone, Copy)]
struct Row {
    owner: User,
    group: u32,
    mode: u32,
    sharers: Sharers,
    file_mode: u32,
}

const fn row(owner: User, group: u32, mode: u32, sharers: Sharers, file_mode: u32) -> Row {
    Row { owner, group, mode, sharers, file_mode }
}

const ROWS: [Row; 12] = [
    row(ALICE, ALICE.id, 0o700, Sharers::Owner, 0o600),
    row(ALICE, STAFF, 0o750, Sharers::Owner, 0o600),
    row(ROOT, STAFF, 0o755, Sharers::Owner, 0o600),
    row(ROOT, STAFF, 0o770, Sharers::Group, 0o660),
    row(ROOT, STAFF, 0o2770, Sharers::Group, 0o660),
    row(ROOT, STAFF, 0o3775, Sharers::Group, 0o660),
    row(ALICE, STAFF, 0o770, Sharers::Group, 0o660),
    row(ALICE, STAFF, 0o775, Sharers::Group, 0o660),
    row(ROOT, 0, 0o1777, Sharers::Everyone, 0o666),
    row(ALICE, ALICE.id, 0o1777, Sharers::Everyone, 0o666),
    row(ROOT, STAFF, 0o3777, Sharers::Everyone, 0o666),
    row(BOB, BOB.id, 0o1733, Sharers::Everyone, 0o666),
];

const ORDERS: [[User; 3]; 6] = [
    [ROOT, ALICE, BOB],
    [ROOT, BOB, ALICE],
    [ALICE, ROOT, BOB],
    [ALICE, BOB, ROOT],
    [BOB, ROOT, ALICE],
    [BOB, ALICE, ROOT],
];

const UMASKS: [&str; 2] = ["022", "777"];

impl Row {
    fn admits(self, user: User) -> bool {
        user == ROOT
            || user == self.owner
            || match self.sharers {
                Sharers::Owner => false,
                Sharers::Group => user.is_member(self.group),
                Sharers::Everyone => true,
            }
    }
}

/// Lets the users acquire the lock in this order, while the others try it. Returns what is wrong.
fn try_cell(place: &Place, row: Row, order: [User; 3], umask: &str, way: Way) -> Vec<String> {
    let mut wrong = Vec::new();
    place.renew(row.owner.id, row.group, row.mode);
    for user in order {
        let holder = user.hold(place, umask, way, "a");
        match (&holder, row.admits(user)) {
            (Err(output), true) => wrong.push(format!("{} is locked out: {output:?}", user.name)),
            (Ok(_), false) => wrong.push(format!("{} acquires a lock of others", user.name)),
            (Err(output), false) if output.status.code() != Some(125) || !output.stderr.starts_with(b"aba-lock: ") => {
                wrong.push(format!("{} gets no sentence: {output:?}", user.name));
            }
            _ => {}
        }
        let Ok(holder) = holder else { continue };
        for other in order.into_iter().filter(|other| *other != user && row.admits(*other)) {
            let output = other.try_lock(place, umask, way, "a");
            if output.status.code() != Some(way.busy_status()) {
                wrong.push(format!("{} tries a lock that {} holds: {output:?}", other.name, user.name));
            }
        }
        holder.release();
    }
    for file in place.files() {
        let is_right_group = row.sharers != Sharers::Group || file.group == row.group;
        if file.mode != row.file_mode || !is_right_group {
            wrong.push(format!("{file:?} in a directory with mode {:o}", row.mode));
        }
    }
    wrong
}

/// Tries all cells in a few threads. Panics with a list of what is wrong.
fn try_cells(cells: &[(Row, [User; 3], &str, Way)]) {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let place = Place::new(ROOT.id, 0, 0o700);
                while let Some(&(row, order, umask, way)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = try_cell(&place, row, order, umask, way);
                    let names = order.map(|user| user.name);
                    let what = |text| {
                        let (owner, group) = (row.owner.name, row.group);
                        format!("{:o} {owner}:{group}, {names:?}, umask {umask}, {way:?}: {text}", row.mode)
                    };
                    wrong.lock().unwrap().extend(found.into_iter().map(what));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let first = wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} mistakes in {} cells:\n{first}", wrong.len(), cells.len());
}

fn all_cells(ways: &[Way], umasks: &[&'static str]) -> Vec<(Row, [User; 3], &'static str, Way)> {
    let mut cells = Vec::new();
    for row in ROWS {
        for order in ORDERS {
            for way in ways {
                cells.extend(umasks.iter().map(|umask| (row, order, *umask, *way)));
            }
        }
    }
    cells
}

#[test]
#[ignore = "needs root: make test-root"]
fn the_directory_decides_who_shares_its_locks() {
    try_cells(&all_cells(&[Way::Helper], &UMASKS));
}

#[test]
#[ignore = "needs root: make test-root"]
fn the_directory_decides_who_shares_its_locks_in_scripts() {
    try_cells(&all_cells(&[Way::Library], &["022", "077"]));
}

#[test]
#[ignore = "needs root: make test-root"]
fn the_directory_decides_who_shares_its_locks_in_a_bash_with_the_builtin() {
    try_cells(&all_cells(&[Way::Builtin], &["022"]));
}

#[test]
#[ignore = "needs root: make test-root"]
fn the_builtin_acquires_free_locks_of_other_users_without_the_helper() {
    for (group, mode) in [(STAFF, 0o770), (0, 0o1777)] {
        let place = Place::new(ROOT.id, group, mode);
        assert!(BOB.try_lock(&place, "022", Way::Builtin, "a").status.success());
        let script = format!("source '{}'; aba_lock_operation a; echo $?", place.library().display());
        for user in [ALICE, ROOT, BOB] {
            let mut program = user.program(&place, "022", &["bash", "-c", &script]);
            let output =
                program.env("ABA_LOCK_BUILTIN", place.builtin()).env("ABA_LOCK_BIN", "/none").output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n", "{}", user.name);
        }
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_directory_that_is_writable_by_all_without_the_sticky_bit_is_refused() {
    let place = Place::new(ROOT.id, 0, 0o777);
    for user in [ROOT, ALICE] {
        for way in [Way::Helper, Way::Library, Way::Builtin] {
            let output = user.try_lock(&place, "022", way, "a");
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(125), "{said}");
            let cause = "every user can replace files in it, because it is not sticky\nhint: run `chmod +t ";
            assert!(said.contains(cause), "{said}");
        }
    }
    assert_eq!(place.files(), []);
    // The same holds for locks that exist.
    fs::write(place.lock_file("a"), "").unwrap();
    crate::place::set_mode(&place.lock_file("a"), 0o666);
    for user in [ROOT, ALICE] {
        for way in [Way::Helper, Way::Library, Way::Builtin] {
            assert_eq!(user.try_lock(&place, "022", way, "a").status.code(), Some(125));
        }
    }
    assert_eq!(fs::read(place.lock_file("a")).unwrap(), b"");
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_directory_whose_group_may_do_less_than_all_other_users_is_refused() {
    let place = Place::new(ROOT.id, STAFF, 0o1757);
    let root = place.root().display().to_string();
    let cause = format!("{root}: all users may write to it, but not the members of its group\n");
    let hint = format!("hint: run `chmod g+w {root}`, or `chmod o-w {root}`\n");
    for is_there in [false, true] {
        for user in [ROOT, ALICE, CAROL] {
            for way in [Way::Helper, Way::Library, Way::Builtin] {
                let output = user.try_lock(&place, "022", way, "a");
                let said = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(125), "{said}");
                assert!(said.contains(&cause) && said.contains(&hint), "{said}");
            }
        }
        assert_eq!(place.files().len(), usize::from(is_there));
        fs::write(place.lock_file("a"), "").unwrap();
        crate::place::set_mode(&place.lock_file("a"), 0o666);
    }
    // In the home directory, which is not examined, no file is created.
    let home = place.base().join(".aba");
    fs::create_dir(&home).unwrap();
    crate::place::set_mode(&home, 0o1757);
    let script = "unset ABA_LOCK_DIR; exec \"$ABA_LOCK_BIN\" lock a -- true";
    let output = CAROL.program(&place, "022", &["sh", "-c", script]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(
        said.contains("all users may write to its directory, but not the members of the group of the directory"),
        "{said}"
    );
    assert!(said.contains(&format!("hint: run `chmod g+w {}`, or ", home.display())), "{said}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    let said = CAROL.call(&place, "022", &["doctor"]).stdout;
    assert!(String::from_utf8_lossy(&said).contains("but not the members of its group"), "{said:?}");
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_script_locks_the_file_of_another_user_with_a_helper_that_it_may_not_read() {
    let place = Place::new(ROOT.id, 0, 0o1777);
    crate::place::set_mode(&place.helper(), 0o711);
    for user in [BOB, ALICE, ROOT] {
        let output = user.try_lock(&place, "022", Way::Library, "a");
        assert!(output.status.success(), "{}: {output:?}", user.name);
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_file_that_bash_has_created_gets_the_mode_and_group_of_its_directory() {
    // As when `clean` removes the file after the library has found it.
    let script = "exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$ABA_LOCK_BIN\" lock --fd 9 a";
    for (owner, group, mode, file_mode) in
        [(ROOT, STAFF, 0o775, 0o660), (ALICE, ALICE.id, 0o755, 0o600), (ROOT, 0, 0o1777, 0o666)]
    {
        for umask in ["000", "022", "077"] {
            let place = Place::new(owner.id, group, mode);
            let output = ALICE.program(&place, umask, &["bash", "-c", script]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let file = &place.files()[0];
            let is_right_group = mode != 0o775 || file.group == STAFF;
            assert!(file.mode == file_mode && is_right_group, "{mode:o}, umask {umask}: {file:?}");
        }
    }
    // An administrator has shared a lock of a private directory.
    let place = Place::new(ROOT.id, 0, 0o755);
    fs::write(place.lock_file("a"), "").unwrap();
    crate::place::set_mode(&place.lock_file("a"), 0o666);
    for user in [ROOT, ALICE, BOB] {
        assert!(user.try_lock(&place, "022", Way::Library, "a").status.success());
    }
    assert_eq!(place.files()[0].mode, 0o666);
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_user_who_is_not_a_member_of_the_group_shares_files_through_setgid() {
    let place = Place::new(CAROL.id, STAFF, 0o770);
    let output = CAROL.try_lock(&place, "022", Way::Helper, "a");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("user 61003 is not a member of group 61100, to which the directory belongs\n"), "{said}");
    assert!(said.contains("hint: new files get the group of the directory after `chmod g+s "), "{said}");
    assert_eq!(place.files(), []);
    place.renew(CAROL.id, STAFF, 0o2770);
    assert!(CAROL.try_lock(&place, "022", Way::Helper, "a").status.success());
    assert_eq!(place.files().iter().map(|file| (file.mode, file.group)).collect::<Vec<_>>(), [(0o660, STAFF)]);
    assert!(BOB.try_lock(&place, "022", Way::Helper, "a").status.success());
}

#[test]
#[ignore = "needs root: make test-root"]
fn no_temporary_file_is_left_and_existing_files_keep_their_mode() {
    let place = Place::new(ROOT.id, STAFF, 0o770);
    for user in [BOB, ROOT] {
        assert!(user.try_lock(&place, "077", Way::Helper, "a").status.success());
    }
    let names: Vec<_> = fs::read_dir(place.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["aba-a.lock"]);
    assert_eq!(place.files()[0].owner, BOB.id);
    // An administrator may have changed the mode.
    crate::place::set_mode(&place.lock_file("a"), 0o640);
    assert!(ROOT.try_lock(&place, "022", Way::Helper, "a").status.success());
    assert_eq!(place.files()[0].mode, 0o640);
}

/// Held for writing while a setting of the kernel is changed. Tests that open files of others with `O_CREAT` in a sticky directory hold it
/// for reading.
pub(crate) static KERNEL_SETTINGS: RwLock<()> = RwLock::new(());

/// A setting of the kernel for files in sticky directories, which gets its old value back.
struct ProtectedFiles {
    path: &'static str,
    before: String,
}

impl ProtectedFiles {
    fn set(path: &'static str, value: &str) -> Option<Self> {
        let before = fs::read_to_string(path).ok()?;
        fs::write(path, value).ok()?;
        Some(Self { path, before })
    }
}

impl Drop for ProtectedFiles {
    fn drop(&mut self) {
        let _ = fs::write(self.path, &self.before);
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn locks_in_sticky_directories_work_while_the_kernel_protects_files() {
    let _alone = KERNEL_SETTINGS.write().unwrap();
    for value in ["1", "2"] {
        let Some(_setting) = ProtectedFiles::set("/proc/sys/fs/protected_regular", value) else {
            eprintln!("fs.protected_regular={value} was not tested: this machine does not let it be set");
            continue;
        };
        let mut cells = all_cells(&[Way::Helper, Way::Library], &["022"]);
        cells.retain(|(row, ..)| row.sharers == Sharers::Everyone && row.mode == 0o1777);
        try_cells(&cells);
    }
}
