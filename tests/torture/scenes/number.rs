//! Numbers: reserve, release, exclude.

use super::{must, next, was_killed};
use crate::driver::{Call, Ended};
use crate::kernel;
use crate::place::{self, Place};
use crate::systematic::{Scene, Verdict};
use std::fs;

/// A small range, of which nobody asks whether it is in use on this machine.
const POOL: [&str; 6] = ["--pool", "p", "--range", "1-6", "--probe", "none"];

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("reserve, the first ever", |place| reserve(directories(place), "one", &[]), judge_first),
        scene("reserve, a new key", |place| reserve(kept(place), "one", &[]), judge),
        scene("reserve, the same key", |place| reserve(kept(place), "zero", &[]), judge_same),
        scene("reserve, waited for", |place| reserve(kept(place), "one", &[]).when_it_waits(freed(place)), judge),
        scene("reserve, beside the litter of another", |place| reserve(littered(place), "one", &[]), judge),
        scene(
            "reserve --group",
            |place| reserve(kept(place), "one", &["--group", "a,b", "--format", "dotenv"]),
            judge_group,
        ),
        scene("reserve -- CMD", lease, judge_lease),
        scene("reserve --check", |place| check(kept(place)), judge_same),
        scene("release", |place| release(kept(place)), judge_release),
        scene("exclude", |place| Call::new(["exclude", "--pool", "p", "2"]).of(kept(place)), judge_exclude),
        scene("migrate", migrate, judge_migrate),
    ]
}

impl Call {
    /// The same; only to say of what.
    fn of(self, _: &Place) -> Self {
        self
    }
}

fn directories(place: &Place) -> &Place {
    for name in ["zero", "one", "two"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    place
}

fn reserve(_: &Place, key: &str, options: &[&str]) -> Call {
    Call::new(["reserve", "--path", key].iter().chain(&POOL).chain(options))
}

/// zero has a number: the first.
fn kept(place: &Place) -> &Place {
    assert_eq!(number_of(directories(place), "zero").as_deref(), Ok("1"));
    place
}

fn number_of(place: &Place, key: &str) -> Result<String, String> {
    let words: Vec<&str> = ["reserve", "--path", key].into_iter().chain(POOL).collect();
    Ok(next(place, &words)?.out.trim().to_owned())
}

fn freed(place: &Place) -> impl FnOnce() + 'static {
    let file = place::hold(&place.path("locks/reserve/p.lock"));
    move || kernel::unflock(&file)
}

fn littered(place: &Place) -> &Place {
    kept(place);
    place.write("locks/reserve/.p.aba-lock.d", "half of it");
    place
}

/// Who had a number has it still; all others get another.
fn judge(place: &Place, ended: &Ended) -> Verdict {
    let one = number_of(place, "one")?;
    let said = ended.out.trim();
    must(ended.status != 0 || said == one, format!("it said {said:?}, and the number is {one}"))?;
    judge_all(place, &one)
}

fn judge_all(place: &Place, one: &str) -> Verdict {
    let (zero, two) = (number_of(place, "zero")?, number_of(place, "two")?);
    must(zero == "1", format!("zero had 1, and has {zero}"))?;
    must(one != zero && two != zero && one != two, format!("a number twice: {zero}, {one}, {two}"))?;
    let names = place.names("locks/reserve");
    let known = |name: &String| ["p", "p.lock", "p.d"].contains(&name.as_str());
    must(names.iter().all(known), format!("litter: {names:?}"))
}

fn judge_first(place: &Place, ended: &Ended) -> Verdict {
    let one = number_of(place, "one")?;
    must(ended.status != 0 || ended.out.trim() == one, format!("it said {:?}, and the number is {one}", ended.out))?;
    let passed_over = ended.err.contains("passed over");
    must(one == "1" || passed_over, format!("the first number is {one}"))?;
    must(number_of(place, "zero")? != one, "a number twice")
}

fn judge_same(place: &Place, ended: &Ended) -> Verdict {
    must(ended.status != 1, "it said that there is no number")?;
    must(ended.status != 0 || ended.out.trim() == "1", format!("zero had 1, and was told {:?}", ended.out))?;
    judge_all(place, &number_of(place, "one")?)
}

fn judge_group(place: &Place, ended: &Ended) -> Verdict {
    let listed = || {
        let words = ["reserve", "--list", "--pool", "p", "--format", "tsv"];
        let list = place.aba(words).out;
        let of_one = |line: &&str| line.contains("/one");
        list.lines().filter(of_one).count()
    };
    let rows = listed();
    must(rows == 0 || rows == 2, format!("{rows} of 2 were given"))?;
    must(ended.status != 0 || rows == 2, "status 0, and they are not kept")?;
    must(ended.status == 0 || was_killed(ended) || rows == 0 || ended.hit.is_some(), "it failed, and they are kept")?;
    judge_all(place, &number_of(place, "two")?).or_else(|why| {
        // two is asked for twice here, and has one number.
        let (zero, two) = (number_of(place, "zero")?, number_of(place, "two")?);
        must(zero == "1" && two != zero, why)
    })
}

fn lease(place: &Place) -> Call {
    kept(place);
    let script = r#""$RACK" act probe "$ABA_LOCK_DIR/reserve/p.d/$ABA_NUMBER.lock" log; echo "$ABA_NUMBER" >>given"#;
    let words = ["reserve", "--path", "one"].into_iter().chain(POOL).chain(["--", "sh", "-c", script]);
    Call::new(words)
}

fn judge_lease(place: &Place, ended: &Ended) -> Verdict {
    must(!place.read("log").contains("without"), "the command had a number without its lock")?;
    let given = place.read("given");
    must(given != "1\n", "a number that another keeps was leased")?;
    must(ended.status != 0 || !given.is_empty(), "status 0, and the command did not run")?;
    judge_all(place, &number_of(place, "one")?)
}

fn check(_: &Place) -> Call {
    Call::new(["reserve", "--check", "--pool", "p", "--path", "zero"])
}

fn release(_: &Place) -> Call {
    Call::new(["release", "--pool", "p", "--path", "zero"])
}

fn judge_release(place: &Place, ended: &Ended) -> Verdict {
    let check = place.aba(["reserve", "--check", "--pool", "p", "--path", "zero"]);
    must(check.status == 0 && check.out == "1\n" || check.status == 1, format!("--check ended so: {check:?}"))?;
    must(ended.status != 0 || check.status == 1, "status 0, and it is still reserved")?;
    let (one, two) = (number_of(place, "one")?, number_of(place, "two")?);
    must(one != two && (check.status == 1 || one != "1"), format!("a number twice: {one}, {two}"))
}

fn judge_exclude(place: &Place, ended: &Ended) -> Verdict {
    let list = next(place, &["exclude", "--pool", "p", "--list"])?.out;
    must(list == "2\n" || list.is_empty(), format!("the list is {list:?}"))?;
    must(ended.status != 0 || list == "2\n", "status 0, and it is not excluded")?;
    let one = number_of(place, "one")?;
    must(list.is_empty() || one != "2", "an excluded number was given")?;
    judge_all(place, &one)
}

fn migrate(place: &Place) -> Call {
    kept(place);
    fs::rename(place.path("zero"), place.path("nought")).unwrap();
    let path = |name: &str| place.path(name).into_os_string();
    Call::new(["migrate".into(), "--from".into(), path("zero"), "--to".into(), path("nought")])
}

fn judge_migrate(place: &Place, ended: &Ended) -> Verdict {
    let (old, new) = (number_of(place, "nought"), place.aba(["reserve", "--check", "--pool", "p", "--path", "zero"]));
    let nought = old?;
    must(ended.status != 0 || nought == "1", format!("status 0, and it has {nought} there"))?;
    must(nought != "1" || new.status == 1, "a number twice")
}
