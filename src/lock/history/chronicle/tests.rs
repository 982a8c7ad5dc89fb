//! The holdings that follow from the events of a log.

use super::super::logged_event::read_events;
use super::*;

/// Builds the holdings of the lock `a` from events, each as `MINUTE EVENT PID MEMBERS`.
fn build_holdings(events: &[&str]) -> Vec<PastHolding> {
    let mut chronicle = Chronicle::default();
    for event in events {
        let words: Vec<&str> = event.splitn(4, ' ').collect();
        let rest = words.get(3).map_or(String::new(), |rest| format!(",{rest}"));
        let line = format!(
            r#"{{"time":"2026-11-30T02:{}:00.000Z","event":"{}","lock":"a","path":"/a","pid":{}{rest}}}"#,
            words[0], words[1], words[2]
        );
        let [event] = &read_events(line.as_bytes())[..] else { panic!("{line}") };
        chronicle.add(event);
    }
    chronicle.into_holdings()
}

fn at(minute: u32) -> jiff::Timestamp {
    format!("2026-11-30T02:{minute:02}:00Z").parse().unwrap()
}

#[test]
fn the_end_is_the_time_of_a_release() {
    let holdings = build_holdings(&["10 acquired 1", r#"14 released 1 "cause":"exit","status":3"#]);
    assert_eq!((holdings[0].ending, holdings[0].cause), (Ending::At(at(14)), Some(EndCause::Exited(3))));
    assert_eq!(holdings[0].duration(), Some(Duration::from_secs(240)));
}

#[test]
fn an_end_without_a_line_lies_between_the_last_proof_and_the_next_acquisition() {
    let holdings = build_holdings(&[
        "10 acquired 1",
        r#"12 contended 2 "waits":false,"holder_pid":1"#,
        r#"13 contended 3 "waits":false,"holder_pid":9"#,
        "20 acquired 4",
    ]);
    assert_eq!(holdings[0].ending, Ending::Between(at(12), at(20)));
    assert_eq!(holdings[0].waits.len(), 1);
    assert_eq!(holdings[1].ending, Ending::After(at(20)));
}

#[test]
fn the_end_is_known_if_a_waiter_acquired_the_lock() {
    let holdings = build_holdings(&[
        "10 acquired 1",
        r#"12 contended 2 "waits":true,"holder_pid":1"#,
        r#"17 acquired 2 "waited_seconds":300.0"#,
    ]);
    assert_eq!(holdings[0].ending, Ending::At(at(17)));
    assert_eq!(holdings[0].waits[0].outcome, PastOutcome::Acquired(Duration::from_secs(300)));
}

#[test]
fn a_time_out_proves_that_the_holder_went_on() {
    let holdings = build_holdings(&[
        "10 acquired 1",
        r#"12 contended 2 "waits":true,"holder_pid":1"#,
        r#"15 timed_out 2 "waited_seconds":180"#,
        "30 acquired 3",
    ]);
    assert_eq!(holdings[0].ending, Ending::Between(at(15), at(30)));
    assert_eq!(holdings[0].waits[0].outcome, PastOutcome::TimedOut(Duration::from_secs(180)));
}

#[test]
fn shared_holders_and_slots_do_not_end_each_other() {
    let holdings = build_holdings(&[
        r#"10 acquired 1 "mode":"shared","slot":1,"slots":2"#,
        r#"11 acquired 2 "mode":"shared","slot":2,"slots":2"#,
        r#"12 acquired 3 "mode":"shared","slot":1,"slots":2"#,
        r#"13 released 2 "cause":"release""#,
    ]);
    let endings: Vec<Ending> = holdings.iter().map(|holding| holding.ending).collect();
    assert_eq!(endings, [Ending::Between(at(10), at(12)), Ending::At(at(13)), Ending::After(at(12))]);
}

#[test]
fn the_reason_for_an_end_is_kept() {
    let holdings = build_holdings(&[
        "10 acquired 1",
        "12 expired 1",
        "13 acquired 2",
        r#"14 taken_over 3 "holder_pid":2"#,
        "15 acquired 3",
    ]);
    assert_eq!((holdings[0].ending, holdings[0].cause), (Ending::Between(at(12), at(13)), Some(EndCause::Expired)));
    assert_eq!((holdings[1].ending, holdings[1].cause), (Ending::Between(at(14), at(15)), Some(EndCause::Replaced(3))));
}

#[test]
fn a_process_that_inherited_the_lock_holds_it_on() {
    let inherited = r#"11 inherited 1 "status":3,"holder_pid":9,"holder_command":"c""#;
    let told = build_holdings(&[
        "10 acquired 1",
        inherited,
        r#"12 contended 2 "waits":false,"holder_pid":8"#,
        "20 acquired 4",
    ]);
    assert_eq!((told[0].ending, told[0].cause), (Ending::Between(at(12), at(20)), Some(EndCause::Exited(3))));
    assert_eq!(told[0].remaining_holder, Some(RemainingHolder::Seen(9, "c".to_owned())));
    let told = build_holdings(&["10 acquired 1", inherited, r#"12 released 9 "cause":"kill""#]);
    assert_eq!((told[0].ending, told[0].cause), (Ending::At(at(12)), Some(EndCause::Killed)));
    let told = build_holdings(&["10 acquired 1", inherited, r#"12 taken_over 4 "holder_pid":9"#, "13 acquired 4"]);
    assert_eq!((told[0].ending, told[0].cause), (Ending::Between(at(12), at(13)), Some(EndCause::Replaced(4))));
}

#[test]
fn a_process_that_could_not_be_seen_holds_the_lock_on_after_the_release() {
    let told = build_holdings(&[
        "10 acquired 1",
        r#"11 released 1 "cause":"exit","status":3"#,
        r#"11 inherited 1 "status":3"#,
        r#"12 contended 2 "waits":false"#,
        "20 acquired 4",
    ]);
    assert_eq!((told[0].ending, told[0].cause), (Ending::Between(at(11), at(20)), Some(EndCause::Exited(3))));
    assert_eq!((&told[0].remaining_holder, told[0].waits.len()), (&Some(RemainingHolder::Unseen), 1));
    // The lock of another process with the same pid is not opened again.
    let told = build_holdings(&["10 acquired 1", "11 acquired 2", r#"12 inherited 1 "status":3"#]);
    assert_eq!((told[0].ending, &told[0].remaining_holder), (Ending::Between(at(10), at(11)), &None));
}

#[test]
fn a_holder_whose_acquisition_was_not_logged_is_shown_from_the_first_call_that_found_it() {
    let told = build_holdings(&[
        r#"10 contended 2 "waits":false,"holder_pid":9,"holder_command":"flock f""#,
        r#"12 contended 3 "waits":true,"holder_pid":9,"holder_command":"flock f""#,
        r#"14 acquired 3 "waited_seconds":120"#,
    ]);
    assert_eq!((told.len(), told[0].pid, told[0].command.as_str(), told[0].is_late), (2, 9, "flock f", true));
    assert_eq!((told[0].ending, told[0].duration()), (Ending::At(at(14)), None));
    let outcomes: Vec<PastOutcome> = told[0].waits.iter().map(|wait| wait.outcome).collect();
    assert_eq!(outcomes, [PastOutcome::Refused, PastOutcome::Acquired(Duration::from_secs(120))]);
    // The line of a release comes before the release.
    let told = build_holdings(&[
        "10 acquired 1",
        r#"12 released 1 "cause":"release""#,
        r#"12 contended 2 "waits":false,"holder_pid":1"#,
    ]);
    assert_eq!((told.len(), told[0].ending, told[0].waits.len()), (1, Ending::At(at(12)), 1));
}

#[test]
fn a_holding_that_began_before_the_log_is_shown_with_its_length() {
    let told = build_holdings(&[r#"14 released 1 "held_seconds":240,"cause":"exit","status":3"#, "20 acquired 2"]);
    assert_eq!((told.len(), told[0].since, told[0].ending), (2, at(10), Ending::At(at(14))));
    assert_eq!((told[0].cause, told[0].duration()), (Some(EndCause::Exited(3)), Some(Duration::from_secs(240))));
    // The line of a release is not taken for another holding.
    let told = build_holdings(&["10 acquired 1", "12 acquired 2", r#"13 released 1 "held_seconds":180"#]);
    assert_eq!(told.len(), 2);
}

#[test]
fn a_skipped_call_is_no_refusal() {
    let told = build_holdings(&[
        "10 acquired 1",
        r#"11 contended 2 "waits":false,"skipped":true,"holder_pid":1"#,
        r#"12 contended 3 "waits":true,"holder_pid":1"#,
        r#"14 timed_out 3 "waited_seconds":120,"skipped":true"#,
        "20 acquired 4",
    ]);
    let outcomes: Vec<PastOutcome> = told[0].waits.iter().map(|wait| wait.outcome).collect();
    assert_eq!(outcomes, [PastOutcome::Skipped(None), PastOutcome::Skipped(Some(Duration::from_secs(120)))]);
    assert_eq!(told[0].ending, Ending::Between(at(14), at(20)));
}

#[test]
fn a_call_that_another_run_covers_is_told_as_that() {
    for waits in ["true", "false"] {
        let told = build_holdings(&[
            "10 acquired 1",
            &format!(r#"11 contended 2 "waits":{waits},"holder_pid":1"#),
            "12 covered 2",
        ]);
        assert_eq!(told[0].waits[0].outcome, PastOutcome::Covered);
    }
}

#[test]
fn the_reason_for_the_exit_of_a_command_may_follow_the_exit() {
    let told = build_holdings(&[
        "10 acquired 1",
        r#"11 released 1 "cause":"exit","status":143"#,
        r#"12 released 1 "cause":"kill""#,
        "13 acquired 2",
        r#"14 released 2 "cause":"exit","status":143"#,
        r#"15 taken_over 3 "holder_pid":2"#,
    ]);
    assert_eq!((told[0].ending, told[0].cause), (Ending::At(at(11)), Some(EndCause::Killed)));
    assert_eq!((told[1].ending, told[1].cause), (Ending::At(at(14)), Some(EndCause::Replaced(3))));
}

#[test]
fn the_reason_for_an_exit_belongs_to_the_last_holding_of_the_process() {
    let told = build_holdings(&[
        r#"10 released 3 "cause":"exit","status":143,"held_seconds":60.0"#,
        r#"11 released 3 "cause":"kill""#,
        "12 acquired 1",
        r#"13 released 1 "cause":"exit","status":0"#,
        "14 acquired 1",
        r#"15 released 1 "cause":"exit","status":143"#,
        "16 acquired 2",
        r#"17 released 1 "cause":"kill""#,
        r#"18 released 4 "cause":"kill""#,
    ]);
    let causes: Vec<_> = told.iter().map(|holding| holding.cause).collect();
    assert_eq!(causes, [Some(EndCause::Killed), Some(EndCause::Exited(0)), Some(EndCause::Killed), None]);
}

/// The events of a command that exited with status 0, and whose acquisition is not in the log.
fn log_end_only(minute: u32, pid: u32) -> String {
    format!(r#"{minute} released {pid} "cause":"exit","status":0,"held_seconds":60.0"#)
}

#[test]
fn ends_without_acquisitions_are_holdings_until_an_acquisition_is_logged() {
    let told = build_holdings(&[
        &log_end_only(10, 3),
        &log_end_only(20, 4),
        "30 acquired 1",
        r#"31 released 1 "cause":"exit","status":0"#,
        &log_end_only(40, 5),
    ]);
    let pids: Vec<u32> = told.iter().map(|holding| holding.pid).collect();
    assert_eq!(pids, [3, 4, 1]);
}

#[test]
fn contention_at_the_time_of_an_end_belongs_to_the_holding_that_ended_last() {
    let told = build_holdings(&[&log_end_only(10, 3), r#"10 contended 4 "waits":false,"holder_pid":3"#]);
    assert_eq!((told.len(), told[0].waits.len()), (1, 1));
    let told = build_holdings(&[
        r#"10 acquired 1 "mode":"shared""#,
        r#"11 acquired 2 "mode":"shared""#,
        r#"12 released 1 "cause":"exit","status":0"#,
        r#"12 inherited 1 "status":0"#,
        r#"14 released 1 "cause":"exit","status":0"#,
        r#"15 released 2 "cause":"exit","status":0"#,
        r#"15 contended 5 "waits":false,"holder_pid":2"#,
    ]);
    let waits: Vec<usize> = told.iter().map(|holding| holding.waits.len()).collect();
    assert_eq!(waits, [0, 1]);
}

#[test]
fn the_reason_for_an_exit_is_known_without_the_acquisition() {
    let told = build_holdings(&[
        r#"10 contended 2 "waits":false,"holder_pid":9"#,
        r#"11 released 9 "cause":"exit","status":143"#,
        r#"12 released 9 "cause":"kill""#,
    ]);
    assert_eq!((told.len(), told[0].cause), (1, Some(EndCause::Killed)));
}

#[test]
fn a_covered_call_that_did_not_wait_may_be_of_an_earlier_holder() {
    let told = build_holdings(&[
        "10 acquired 5",
        r#"11 released 5 "cause":"exit","status":0"#,
        "12 acquired 1",
        r#"13 contended 5 "waits":false,"holder_pid":1"#,
        "13 covered 5",
    ]);
    assert_eq!(told[1].waits[0].outcome, PastOutcome::Covered);
}

#[test]
fn a_wait_that_has_ended_does_not_end_again() {
    let told = build_holdings(&[
        "10 acquired 1",
        r#"12 contended 2 "waits":true,"holder_pid":1"#,
        r#"17 acquired 2 "waited_seconds":300.0"#,
        r#"18 timed_out 2 "waited_seconds":60.0"#,
    ]);
    assert_eq!(told[0].waits[0].outcome, PastOutcome::Acquired(Duration::from_secs(300)));
}

#[test]
fn a_process_that_is_seen_after_the_release_does_not_hold_the_released_lock() {
    let told = build_holdings(&[
        "10 acquired 1",
        r#"11 released 1 "cause":"exit","status":0"#,
        r#"12 inherited 1 "status":0,"holder_pid":9,"holder_command":"c""#,
    ]);
    assert_eq!((told[0].ending, &told[0].remaining_holder), (Ending::At(at(11)), &None));
}
