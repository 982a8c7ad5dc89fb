//! What must hold of everything here that reads what others may have written: for whatever bytes.
//!
//! Each of these functions takes any bytes, as the text that is read and as the values that are printed and read again,
//! and panics where a promise is broken. The fuzz targets (`tests/fuzz`) and the tests below call the same ones; nothing
//! of it is in the library that the helper is made of. A function stands beside the reader it is about.

pub use crate::admin::metrics::properties::check_event_log as metrics;
pub use crate::base::duration::properties::hold as span;
pub use crate::base::names::properties::hold as name;
pub use crate::lock::flock::arguments::properties::hold as flock;
pub use crate::lock::record::properties::hold as record;
pub use crate::number::contents::properties::check_registry as registry;
pub use crate::number::dotenv::properties::check_dotenv as dotenv;
pub use crate::number::group_file::properties::check_group_file as group;
pub use crate::task::saved::properties::hold as saved;

/// What the kernel says in `/proc`.
///
/// # Panics
///
/// As the others.
pub fn proc(bytes: &[u8]) {
    crate::os::proc::lock_table::properties::hold(bytes);
    crate::os::proc::process::properties::hold(bytes);
    crate::os::proc::port_owners::properties::hold(bytes);
    crate::admin::doctor::mounts::properties::check_mounts(bytes);
}

/// Values made of bytes: what stands between the bytes 0xfe. They hold no NUL, as no word of a command does, and no path.
pub(crate) fn values(bytes: &[u8]) -> Vec<Vec<u8>> {
    let plain = |part: &[u8]| part.iter().copied().filter(|byte| *byte != 0).collect();
    bytes.split(|byte| *byte == 0xfe).map(plain).collect()
}

/// The same as text.
pub(crate) fn texts(bytes: &[u8]) -> Vec<String> {
    values(bytes).iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// Some place in `len` bytes, as the bytes themselves say.
pub(crate) fn somewhere(bytes: &[u8], len: usize) -> usize {
    let sum = bytes.iter().fold(bytes.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    if len == 0 { 0 } else { sum % len }
}

#[cfg(test)]
mod tests {
    //! The tests that run everywhere: bytes made of the seeds and the words in `tests/inputs`, the same ones in each run.
    //! `PROPTEST_CASES` makes them more, `PROPTEST_RNG_SEED` others. What breaks a promise is made as small as it goes, and
    //! printed.

    use crate::number::group_file::properties::parse_only;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use proptest::test_runner::{Config, RngSeed, TestRunner};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    type Property = fn(&[u8]);

    /// What it is, who reads it, and what is added until it is long.
    type Long = (&'static str, Property, fn(usize) -> String);

    fn directory(kind: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inputs").join(kind)
    }

    /// What was written by hand to begin with.
    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let files = fs::read_dir(directory("seeds").join(name)).expect("each property has seeds");
        let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("it can be read").path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).expect("it can be read")).collect()
    }

    /// The words of a dictionary in the form of libFuzzer: in quotes, a line each, with `\\`, `\"` and `\xAB`.
    fn words(name: &str) -> Vec<Vec<u8>> {
        let text = fs::read_to_string(directory("words").join(name)).expect("each property has words");
        let lines = text.lines().filter(|line| line.starts_with('"'));
        lines.map(|line| word(line).unwrap_or_else(|| panic!("{line} in words/{name}"))).collect()
    }

    fn word(line: &str) -> Option<Vec<u8>> {
        let mut rest = line.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
        let mut word = Vec::new();
        while let Some((byte, more)) = rest.split_first() {
            rest = more;
            if *byte != b'\\' {
                word.push(*byte);
            } else if let Some(code) = rest.strip_prefix(b"x") {
                word.push(u8::from_str_radix(std::str::from_utf8(code.get(..2)?).ok()?, 16).ok()?);
                rest = &code[2..];
            } else {
                word.push(*rest.first()?);
                rest = &rest[1..];
            }
        }
        Some(word)
    }

    /// Words one after the other, a seed with something else in one place, and now and then any bytes.
    fn input(seeds: &[Vec<u8>], words: &[Vec<u8>]) -> impl Strategy<Value = Vec<u8>> + use<> {
        let piece = || {
            prop_oneof![
                8 => select(words.to_vec()),
                1 => vec(any::<u8>(), 1..4),
                1 => "[ -~é]{1,3}".prop_map(String::into_bytes),
            ]
        };
        let some = vec(piece(), 0..24).prop_map(|pieces| pieces.concat());
        let few = vec(piece(), 0..3).prop_map(|pieces| pieces.concat());
        let changed = (select(seeds.to_vec()), any::<Index>(), 0..12_usize, few).prop_map(|(seed, at, cut, new)| {
            let at = at.index(seed.len() + 1);
            [&seed[..at], &new, &seed[(at + cut).min(seed.len())..]].concat()
        });
        prop_oneof![some, changed]
    }

    fn holds(name: &str, property: Property) {
        let (seeds, words) = (seeds(name), words(name));
        for seed in &seeds {
            property(seed);
        }
        let mut config = Config { failure_persistence: None, ..Config::default() };
        if matches!(config.rng_seed, RngSeed::Random) {
            config.rng_seed = RngSeed::Fixed(1);
        }
        if config.cases == 256 {
            config.cases = 2000;
        }
        let outcome = TestRunner::new(config).run(&input(&seeds, &words), |bytes| {
            property(&bytes);
            Ok(())
        });
        if let Err(why) = outcome {
            let proptest::test_runner::TestError::Fail(reason, bytes) = why else { panic!("{why}") };
            panic!("{name}: {reason}\nwith the input b\"{}\"", bytes.escape_ascii());
        }
    }

    /// In the time that this thread had a processor, so that others who have it meanwhile do not count.
    fn time_of(property: Property, bytes: &[u8]) -> Duration {
        let now = || {
            let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
            text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        };
        let (before, start) = (now(), Instant::now());
        property(bytes);
        before.zip(now()).map_or_else(|| start.elapsed(), |(before, after)| after.saturating_sub(before))
    }

    /// Of eight times as much, eight times the time is to be expected, and 64 times where it grows with the square.
    #[test]
    fn twice_as_much_to_read_takes_twice_as_long_and_not_four_times() {
        const SIZE: usize = 1 << 19;
        const LITTLE: Duration = Duration::from_millis(100);
        let long: [Long; 12] = [
            ("services", parse_only, |n| {
                format!("{}    s{n}:\n", if n == 0 { "reservations:\n  services:\n" } else { "" })
            }),
            ("tags", parse_only, |n| format!("{}s{n}", if n == 0 { "" } else { "," })),
            ("exclusions", super::registry, |n| format!("exclude {n}\n")),
            ("rows", super::registry, |n| format!("{n} 1 2 - - /d{n}\n")),
            ("rows of one key", super::registry, |n| format!("{n} 1 2 - web /new\n")),
            ("quotes that do not close", super::dotenv, |n| format!("A={}x\nB{n}=1\n", ["\"", "'", "`"][n % 3])),
            ("lines of ours in quotes", super::dotenv, |n| format!("WEB_PORT=\"{n}\nA=\"\nB=\"x\n")),
            ("events that were cut", super::metrics, |_| "{\"time\":".to_owned()),
            ("events of many locks", super::metrics, |n| format!("{{\"event\":\"acquired\",\"lock\":\"{n}\"}}\n")),
            ("who waits for one lock", super::proc, |n| format!("1: -> FLOCK ADVISORY WRITE {n} fe:00:7 0 EOF\n")),
            ("words of a command", super::saved, |n| {
                format!("{}[{n}]=a ", if n == 0 { "declare -a command=(" } else { "" })
            }),
            ("digits", super::span, |_| "9".to_owned()),
        ];
        for (what, property, piece) in long {
            let text = |size: usize| {
                let mut text = String::with_capacity(size + 64);
                for n in 0..size {
                    text.push_str(&piece(n));
                    if text.len() > size {
                        break;
                    }
                }
                text.into_bytes()
            };
            let (short, whole) = (text(SIZE / 8), text(SIZE));
            // The best of three: a cache that others emptied makes any of them longer.
            let best = |bytes: &[u8]| (0..3).map(|_| time_of(property, bytes)).min().unwrap_or_default();
            let (short, mut whole_time) = (best(&short), time_of(property, &whole));
            if whole_time > LITTLE && whole_time > short * 20 {
                whole_time = best(&whole);
            }
            assert!(
                whole_time <= LITTLE || whole_time <= short * 20,
                "{what}: {short:?}, of eight times as much {whole_time:?}"
            );
        }
    }

    macro_rules! tests {
        ($($name:ident $test:ident)*) => { $(
            #[test]
            fn $test() {
                holds(stringify!($name), super::$name);
            }
        )* };
    }

    tests! {
        dotenv what_is_promised_of_dotenv_files_holds_for_any_bytes
        flock what_is_promised_of_flocks_words_holds_for_any_bytes
        group what_is_promised_of_group_files_holds_for_any_bytes
        metrics what_is_promised_of_event_logs_holds_for_any_bytes
        name what_is_promised_of_names_holds_for_any_bytes
        proc what_is_promised_of_proc_holds_for_any_bytes
        record what_is_promised_of_records_holds_for_any_bytes
        registry what_is_promised_of_registries_holds_for_any_bytes
        saved what_is_promised_of_saved_commands_holds_for_any_bytes
        span what_is_promised_of_spans_holds_for_any_bytes
    }
}
