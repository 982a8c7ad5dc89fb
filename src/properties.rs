//! Properties that each parser must have for any input, because other programs may have written the input.
//!
//! Each function takes arbitrary bytes. It parses them, and formats and parses values that are made from them, and panics
//! if a property does not hold. The fuzz targets in `tests/fuzz` and the tests below call these functions. They are not
//! compiled into the helper. The properties of a parser are in a file next to it.

pub use crate::admin::metrics::properties::check_event_log as metrics;
pub use crate::lock::flock::arguments::properties::hold as flock;
pub use crate::lock::record::properties::hold as record;
pub use crate::number::contents::properties::check_registry as registry;
pub use crate::number::dotenv::properties::check_dotenv as dotenv;
pub use crate::number::group_file::properties::check_group_file as group;
pub use crate::task::saved::properties::hold as saved;

/// Checks the parsers of durations, signals, and other short words of the command line.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn span(bytes: &[u8]) {
    crate::base::duration::properties::hold(bytes);
    crate::number::properties::check_words(bytes);
}

/// Checks the parsers of names.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn name(bytes: &[u8]) {
    crate::base::names::properties::hold(bytes);
    crate::number::properties::check_words(bytes);
}

/// Checks the parsers of files in `/proc`.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn proc(bytes: &[u8]) {
    crate::os::proc::lock_table::properties::hold(bytes);
    crate::os::proc::process::properties::hold(bytes);
    crate::os::proc::socket_table::properties::hold(bytes);
    crate::admin::doctor::mounts::properties::check_mounts(bytes);
}

/// Splits bytes into values at each byte 0xfe. The values contain no NUL, because words of a command and paths contain
/// none.
pub(crate) fn values(bytes: &[u8]) -> Vec<Vec<u8>> {
    let plain = |part: &[u8]| part.iter().copied().filter(|byte| *byte != 0).collect();
    bytes.split(|byte| *byte == 0xfe).map(plain).collect()
}

/// Returns the values as text.
pub(crate) fn texts(bytes: &[u8]) -> Vec<String> {
    values(bytes).iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// Returns a position in `len` bytes that depends only on `bytes`.
pub(crate) fn somewhere(bytes: &[u8], len: usize) -> usize {
    let sum = bytes.iter().fold(bytes.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    if len == 0 { 0 } else { sum % len }
}

#[cfg(test)]
mod tests {
    //! Checks the properties with inputs that are generated from the seeds and words in `tests/inputs`, the same ones in
    //! each run. `PROPTEST_CASES` sets their number, and `PROPTEST_RNG_SEED` the seed of the generator. An input that
    //! fails is minimized and printed.

    use crate::number::group_file::properties::parse_only;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use proptest::test_runner::{Config, RngSeed, TestRunner};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    type Property = fn(&[u8]);

    /// The description of a long input, the check that parses it, and the function that returns its nth part.
    type Long = (&'static str, Property, fn(usize) -> String);

    fn directory(kind: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inputs").join(kind)
    }

    /// Returns the inputs that were written by hand.
    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let files = fs::read_dir(directory("seeds").join(name)).expect("each property has seeds");
        let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("it can be read").path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).expect("it can be read")).collect()
    }

    /// Returns the words of a dictionary of libFuzzer: one quoted word on each line, with the escapes `\\`, `\"` and `\xAB`.
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

    /// Generates inputs: sequences of words and random bytes, and seeds with one changed part.
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

    /// Measures the processor time of a check, so that other processes do not affect it.
    fn time_of(property: Property, bytes: &[u8]) -> Duration {
        let now = || {
            let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
            text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        };
        let (before, start) = (now(), Instant::now());
        property(bytes);
        before.zip(now()).map_or_else(|| start.elapsed(), |(before, after)| after.saturating_sub(before))
    }

    /// Eight times the input should take eight times as long. With a quadratic algorithm, it takes 64 times as long.
    #[test]
    fn the_time_of_each_parser_grows_linearly() {
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
            // The minimum of three runs: other processes can evict the cache during a run.
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
        dotenv properties_of_dotenv_files_hold_for_any_input
        flock properties_of_flocks_words_hold_for_any_input
        group properties_of_group_files_hold_for_any_input
        metrics properties_of_event_logs_hold_for_any_input
        name properties_of_names_hold_for_any_input
        proc properties_of_proc_hold_for_any_input
        record properties_of_records_hold_for_any_input
        registry properties_of_registries_hold_for_any_input
        saved properties_of_saved_commands_hold_for_any_input
        span properties_of_spans_hold_for_any_input
    }
}
