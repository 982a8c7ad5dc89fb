//! The scenes of `reserve`, `release`, `exclude` and `migrate`. After each call, each key has one number, no number has two keys, and
//! a key that had a number still has it.

use super::checks::{call_next, lock_until_called, must, was_killed};
use crate::driver::{Call, Outcome};
use crate::place::Place;
use crate::scene::{Scene, Verdict};
use std::fs;

/// The options of a pool with a small range. The helper does not probe whether its numbers are in use on this machine.
const POOL: [&str; 6] = ["--pool", "p", "--range", "1-6", "--probe", "none"];

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("reserve, the first ever", |place| reserve(create_directories(place), "one", &[]), judge_first),
        scene("reserve, a new key", |place| reserve(reserve_zero(place), "one", &[]), judge),
        scene("reserve, the same key", |place| reserve(reserve_zero(place), "zero", &[]), judge_same),
        scene(
            "reserve, waited for",
            |place| {
                reserve(reserve_zero(place), "one", &[])
                    .when_it_waits(lock_until_called(&place.path("locks/reserve/p.lock")))
            },
            judge,
        ),
        scene("reserve, beside the litter of another", |place| reserve(create_remains(place), "one", &[]), judge),
        scene(
            "reserve --group",
            |place| reserve(reserve_zero(place), "one", &["--group", "a,b", "--format", "dotenv"]),
            judge_group,
        ),
        scene("reserve -- CMD", lease, judge_lease),
        scene("reserve --check", |place| check_key(reserve_zero(place)), judge_same),
        scene("release", |place| release(reserve_zero(place)), judge_release),
        scene("exclude", |place| Call::new(["exclude", "--pool", "p", "2"]).after(reserve_zero(place)), judge_exclude),
        scene("migrate", migrate, judge_migrate),
    ]
}

fn create_directories(place: &Place) -> &Place {
    for name in ["zero", "one", "two"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    place
}

fn reserve(_: &Place, key: &str, options: &[&str]) -> Call {
    Call::new(["reserve", "--path", key].iter().chain(&POOL).chain(options))
}

/// Reserves the first number for `zero`.
fn reserve_zero(place: &Place) -> &Place {
    assert_eq!(reserve_number(create_directories(place), "zero").as_deref(), Ok("1"));
    place
}

fn reserve_number(place: &Place, key: &str) -> Result<String, String> {
    let words: Vec<&str> = ["reserve", "--path", key].into_iter().chain(POOL).collect();
    Ok(call_next(place, &words)?.out.trim().to_owned())
}

fn create_remains(place: &Place) -> &Place {
    reserve_zero(place);
    place.write("locks/reserve/.p.aba-lock.d", "half of it");
    place
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let one = reserve_number(place, "one")?;
    let said = outcome.out.trim();
    must(outcome.status != 0 || said == one, format!("it said {said:?}, and the number is {one}"))?;
    judge_all(place, &one)
}

fn judge_all(place: &Place, one: &str) -> Verdict {
    let (zero, two) = (reserve_number(place, "zero")?, reserve_number(place, "two")?);
    must(zero == "1", format!("zero had 1, and has {zero}"))?;
    must(one != zero && two != zero && one != two, format!("a number twice: {zero}, {one}, {two}"))?;
    let names = place.list_names("locks/reserve");
    let known = |name: &String| ["p", "p.lock", "p.d"].contains(&name.as_str());
    must(names.iter().all(known), format!("litter: {names:?}"))
}

fn judge_first(place: &Place, outcome: &Outcome) -> Verdict {
    let one = reserve_number(place, "one")?;
    must(
        outcome.status != 0 || outcome.out.trim() == one,
        format!("it said {:?}, and the number is {one}", outcome.out),
    )?;
    let passed_over = outcome.err.contains("skipped a number");
    must(one == "1" || passed_over, format!("the first number is {one}"))?;
    must(reserve_number(place, "zero")? != one, "a number twice")
}

fn judge_same(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 1, "it said that there is no number")?;
    must(outcome.status != 0 || outcome.out.trim() == "1", format!("zero had 1, and was told {:?}", outcome.out))?;
    judge_all(place, &reserve_number(place, "one")?)
}

fn judge_group(place: &Place, outcome: &Outcome) -> Verdict {
    let listed = || {
        let words = ["reserve", "--list", "--pool", "p", "--format", "tsv"];
        let list = place.run_helper(words).out;
        let of_one = |line: &&str| line.contains("/one");
        list.lines().filter(of_one).count()
    };
    let rows = listed();
    must(rows == 0 || rows == 2, format!("{rows} of 2 were given"))?;
    must(outcome.status != 0 || rows == 2, "status 0, and they are not kept")?;
    must(
        outcome.status == 0 || was_killed(outcome) || rows == 0 || outcome.hit.is_some(),
        "it failed, and they are kept",
    )?;
    judge_all(place, &reserve_number(place, "two")?).or_else(|why| {
        // `two` is reserved twice here, and has one number.
        let (zero, two) = (reserve_number(place, "zero")?, reserve_number(place, "two")?);
        must(zero == "1" && two != zero, why)
    })
}

fn lease(place: &Place) -> Call {
    reserve_zero(place);
    let script =
        r#""$TORTURE" payload probe "$ABA_LOCK_DIR/reserve/p.d/$ABA_NUMBER.lock" log; echo "$ABA_NUMBER" >>given"#;
    let words = ["reserve", "--path", "one"].into_iter().chain(POOL).chain(["--", "sh", "-c", script]);
    Call::new(words)
}

fn judge_lease(place: &Place, outcome: &Outcome) -> Verdict {
    must(!place.read("log").contains("without"), "the command had a number without its lock")?;
    let given = place.read("given");
    must(given != "1\n", "a number that another keeps was leased")?;
    must(outcome.status != 0 || !given.is_empty(), "status 0, and the command did not run")?;
    judge_all(place, &reserve_number(place, "one")?)
}

fn check_key(_: &Place) -> Call {
    Call::new(["reserve", "--check", "--pool", "p", "--path", "zero"])
}

fn release(_: &Place) -> Call {
    Call::new(["release", "--pool", "p", "--path", "zero"])
}

fn judge_release(place: &Place, outcome: &Outcome) -> Verdict {
    let check = place.run_helper(["reserve", "--check", "--pool", "p", "--path", "zero"]);
    must(check.status == 0 && check.out == "1\n" || check.status == 1, format!("--check ended so: {check:?}"))?;
    must(outcome.status != 0 || check.status == 1, "status 0, and it is still reserved")?;
    let (one, two) = (reserve_number(place, "one")?, reserve_number(place, "two")?);
    must(one != two && (check.status == 1 || one != "1"), format!("a number twice: {one}, {two}"))
}

fn judge_exclude(place: &Place, outcome: &Outcome) -> Verdict {
    let list = call_next(place, &["exclude", "--pool", "p", "--list"])?.out;
    must(list == "2\n" || list.is_empty(), format!("the list is {list:?}"))?;
    must(outcome.status != 0 || list == "2\n", "status 0, and it is not excluded")?;
    let one = reserve_number(place, "one")?;
    must(list.is_empty() || one != "2", "an excluded number was given")?;
    judge_all(place, &one)
}

fn migrate(place: &Place) -> Call {
    reserve_zero(place);
    fs::rename(place.path("zero"), place.path("nought")).unwrap();
    let path = |name: &str| place.path(name).into_os_string();
    Call::new(["migrate".into(), "--from".into(), path("zero"), "--to".into(), path("nought")])
}

fn judge_migrate(place: &Place, outcome: &Outcome) -> Verdict {
    let (old, new) =
        (reserve_number(place, "nought"), place.run_helper(["reserve", "--check", "--pool", "p", "--path", "zero"]));
    let nought = old?;
    must(outcome.status != 0 || nought == "1", format!("status 0, and it has {nought} there"))?;
    must(nought != "1" || new.status == 1, "a number twice")
}
