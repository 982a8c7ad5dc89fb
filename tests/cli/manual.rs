//! `aba-lock man` and `aba-lock completions`: the helper alone is the whole product.

use crate::process::{copy_program, write_program};
use crate::scene::{HELPER, Scene};
use crate::snippet_table::project_root;
use crate::text::format_page;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The files of the pages that `man --list` names.
fn list_pages(scene: &Scene) -> Vec<String> {
    let list = scene.aba(["man", "--list"]).out("PAGE").run().out;
    list.lines().skip(1).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn terms_stand_next_to_their_text_and_lines_end_at_the_width() {
    let page = ".TH a 1\n.SH OPTIONS\nIntroduction.\n.TP\n\\fB\\-q\\fR\nPrint no messages at all.\n.TP\n\
                \\fB\\-\\-quiet\\fR \\fIN\\fR\nIt\\*(Aqs.\n\nNot more.\n";
    let text = "OPTIONS\n    Introduction.\n\n    -q  Print no\n        messages at\n        all.\n\n    --quiet N\n        \
                It's.\n\n        Not more.\n";
    assert_eq!(format_page(page, 20, false), text);
    let styled = format_page(page, 20, true);
    assert!(styled.contains("\x1b[0;1m-q\x1b[0m  Print") && styled.contains("\x1b[0;4mN\x1b[0m\n"), "{styled}");
}

#[test]
fn macros_put_punctuation_next_to_their_words() {
    let page = ".Dd x\n.Sh NAME\n.Nm tool\n.Nd a tool\n.Sh DESCRIPTION\n.Nm\nhas\n.Fl -slots , -coalesce\nand\n\
                .Op Fl t Ar time Ns Op , Ar more .\nSee\n.Ql -w 60 ,\n.Pq see Xr flock 1 .\n.Bd -literal -offset indent\nx  y\n.Ed\n\
                .Bl -tag -width Ds\n.It Fl n , Fl -wait Ns Op Li = Ns Ar time\nWait.\n.El\n.Pp\nEnd.\n";
    let text = "NAME\n    tool - a tool\n\nDESCRIPTION\n    tool has --slots, --coalesce and [-t time[, more]]. See ‘-w 60’, (see \
                flock(1)).\n\n        x  y\n\n    -n, --wait[=time]\n        Wait.\n\n    End.\n";
    assert_eq!(format_page(page, 100, false), text);
}

#[test]
fn the_text_of_each_page_has_the_words_that_mandoc_prints() {
    if Command::new("mandoc").arg("-T").output().is_err() {
        eprintln!("skipped: mandoc is not installed");
        return;
    }
    let scene = Scene::new();
    let pages = list_pages(&scene);
    assert!(pages.len() >= 28, "{pages:?}");
    for page in pages {
        let source = scene.path(&page);
        fs::write(&source, scene.aba(["man", "--roff", &page]).out("").run().out).unwrap();
        let expected =
            Command::new("mandoc").args(["-T", "utf8", "-O", "width=200"]).arg(&source).output().unwrap().stdout;
        let expected = remove_overstrikes(&String::from_utf8(expected).unwrap());
        // Without the header and the footer.
        let lines: Vec<&str> = expected.trim().lines().collect();
        let squeeze = |text: &str| text.replace('–', "-").split_whitespace().collect::<String>();
        let expected = squeeze(&lines[1..lines.len() - 1].join(" "));
        let printed = squeeze(&scene.aba(["man", &page]).out("").run().out);
        let same = printed.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
        let after = |text: &str| text.chars().skip(same.saturating_sub(20)).take(80).collect::<String>();
        assert!(printed == expected, "{page}: {:?}\nmandoc: {:?}", after(&printed), after(&expected));
    }
}

/// Removes the characters that a terminal would print over others, which make these bold or underlined.
fn remove_overstrikes(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    plain
}

#[test]
fn a_page_is_found_by_its_name_its_section_and_its_command() {
    let scene = Scene::new();
    let words = [
        ("status", "aba-lock-status - "),
        ("aba-lock-status", "aba-lock-status - "),
        ("aba-lock", "aba-lock - "),
        ("reserve", "aba-lock-reserve - Reserve a number"),
        ("aba-lock-reserve.7", "aba-lock-reserve - a port for"),
        ("reserve(7)", "aba-lock-reserve - a port for"),
        ("aba-lock.bash", "aba-lock.bash - "),
        ("aba-lockd.8", "aba-lockd - "),
        ("lease", "aba-lock-lease - "),
    ];
    for (word, name) in words {
        scene.aba(["man", word]).out(format!("NAME\n    {name}")).run();
    }
    scene.aba(["man"]).out("NAME\n    aba-lock - ").run();
    for word in ["", "aba", "status.7", "aba-lock.", "(1)", "no\x1b"] {
        let call = scene.aba(["man", word]).status(2).err("aba-lock: man: no such page: ");
        call.err("hint: list the pages with `aba-lock man --list`").run();
    }
    scene.aba(["man", "--list", "lock"]).status(2).err("").run();
}

#[test]
fn pages_are_written_where_man_finds_them() {
    let scene = Scene::new();
    let directory = scene.path("share/man");
    scene.aba(["man", "--write", directory.to_str().unwrap()]).out("").run();
    for page in list_pages(&scene) {
        let section = page.rsplit_once('.').unwrap().1;
        let written = fs::read_to_string(directory.join(format!("man{section}/{page}"))).unwrap();
        assert_eq!(written, scene.aba(["man", "--roff", &page]).out("").run().out, "{page}");
    }
    let file = scene.path("file");
    fs::write(&file, "").unwrap();
    scene
        .aba(["man", "--write", file.to_str().unwrap()])
        .status(125)
        .err(format!("cannot write {}", file.display()))
        .run();
}

#[test]
fn pages_name_the_directory_in_which_the_library_is_installed() {
    let scene = Scene::new();
    let helper = scene.path("opt/bin/aba-lock");
    fs::create_dir_all(helper.parent().unwrap()).unwrap();
    fs::create_dir_all(scene.path("opt/share/aba-lock")).unwrap();
    fs::hard_link(HELPER, &helper).unwrap_or_else(|_| copy_program(HELPER, &helper));
    let page = |name: &str| scene.call(&helper).args(["man", "--roff", name]).out("").run().out;
    assert!(page("aba-lock.bash").contains("source /usr/local/share/aba-lock/aba-lock.bash"));
    fs::write(scene.path("opt/share/aba-lock/aba-lock.bash"), "").unwrap();
    let shown = page("aba-lock.bash");
    assert!(!shown.contains("/usr/local/share/aba-lock"), "{shown}");
    let library = scene.path("opt/share/aba-lock/aba-lock.bash");
    assert!(shown.contains(&format!("source {}", library.display())), "{shown}");
}

#[test]
fn a_terminal_shows_a_page_with_man_or_with_a_pager() {
    let scene = Scene::new();
    let bin = scene.path("bin");
    fs::create_dir(&bin).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let show = || {
        scene
            .on_terminal("no such text=/dev/null")
            .env("PATH", &path)
            .env("NO_COLOR", "1")
            .args([HELPER, "man", "status"])
    };
    // Not the one of man-db, such as the script in small images of Debian.
    write_program(&bin.join("man"), "#!/bin/sh\necho This system has been minimized\n");
    let text = show().env("PAGER", "head -n 2 #").out("NAME\r\n    aba-lock-status - ").run().out;
    assert_eq!(text.lines().count(), 2, "{text}");
    show().env("MANPAGER", "tr a-z A-Z").env("PAGER", "false").out("ABA-LOCK-STATUS - ").run();
    write_program(&bin.join("less"), "#!/bin/sh\necho \"less $LESS\"; head -n 1\n");
    show().env_remove("PAGER").out("less FRX\r\nNAME\r\n").run();
    write_program(
        &bin.join("man"),
        "#!/bin/sh\ncase $1 in --version) echo man 2.11.2 ;; *) echo \"man $*\"; grep '^\\.TH'; exit 3 ;; esac\n",
    );
    show().status(3).out("man -l -\r\n.TH aba-lock-status 1 ").run();
}

#[test]
fn completions_prints_the_script_of_each_shell() {
    let scene = Scene::new();
    for (shell, file) in [("bash", "aba-lock.bash"), ("zsh", "_aba-lock"), ("fish", "aba-lock.fish")] {
        let script: PathBuf = project_root().join("completions").join(file);
        assert_eq!(scene.aba(["completions", shell]).out("").run().out, fs::read_to_string(script).unwrap());
    }
    let load = "source <(\"$HELPER\" completions bash) && complete -p aba-lock";
    scene.bash(load).out("-F _aba_lock aba-lock").run();
    scene.aba(["completions", "ksh"]).status(2).err("bash, zsh, fish").run();
    scene.aba(["completions"]).status(2).err("<SHELL>").run();
}
