//! `reserve` among files, numbers and users that are not as they should be.

use crate::reserve::reserve;
use crate::scene::Scene;
use std::fs;

#[test]
fn a_quote_that_does_not_close_costs_no_line_of_the_file() {
    let scene = Scene::new();
    let args = ["--group", "web,db", "--dotenv", ".env"];
    fs::create_dir(scene.path("a")).unwrap();
    let rest = "API_KEY=sk\nNAME=it\n# end\n";
    for value in ["\"3000", "'", "`", "\"a\\\""] {
        fs::write(scene.path("a/.env"), format!("DB_URL=x\nWEB_PORT={value}\n{rest}")).unwrap();
        reserve(&scene, "a", &args).out("5000\n5001\n").run();
        let text = fs::read_to_string(scene.path("a/.env")).unwrap();
        assert_eq!(text, format!("DB_URL=x\nWEB_PORT=5000\n{rest}DB_PORT=5001\n"), "{value}");
        // In a line of others, it does not hide ours.
        fs::write(scene.path("a/.env"), format!("A={value}\nWEB_PORT=1\n")).unwrap();
        reserve(&scene, "a", &args).out("5000\n5001\n").run();
        let text = fs::read_to_string(scene.path("a/.env")).unwrap();
        assert_eq!(text, format!("A={value}\nWEB_PORT=5000\nDB_PORT=5001\n"), "{value}");
    }
}

#[test]
fn no_number_lies_beyond_the_last() {
    let scene = Scene::new();
    let last = u32::MAX.to_string();
    let pool = ["--pool", "x", "--range", &last];
    let group = |range: &str| reserve(&scene, "a", &["--pool", "x", "--range", range, "--group", "a,b"]);
    group(&last).status(75).err("there is no place in 4294967295 of x for a group of 2").run();
    group("4294967294-4294967295").out("4294967294\n4294967295\n").run();
    reserve(&scene, "b", &pool).status(75).err("1 reserved").run();
    fs::write(scene.path("b/far.yaml"), "reservations:\n  base: 4294967295\n  services:\n    a:\n    b:\n").unwrap();
    let far = ["--pool", "y", "--range", &last, "--group-file", "far.yaml"];
    reserve(&scene, "b", &far).status(75).err("no place").run();
}
