//! Which number is given: a plan over the rows, the exclusions, the leases and what is in use, made under the lock of the
//! pool.

use super::book::{Book, Row};
use super::error::NumberError;
use super::gone::{Place, is_gone};
use super::group::{Group, Want};
use super::lease::Leases;
use super::pool::{Range, Tag};
use super::registry::Registry;
use crate::lock::error::LockError;
use crate::os::proc::port_owners;
use crate::os::{self, Transport, Trial};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A use is noted when the last one that was is so long ago: in seconds. To write the registry for each would cost more
/// than the rest of the call.
const NOTE_AFTER: u64 = 60;

/// Rows that were not used for so many days are dropped when nothing else is left to give.
pub const EXPIRE_DAYS: u32 = 90;

/// When a clock says that it is earlier, it is wrong: in seconds since 1970. It is the year 2020.
const CLOCK_SET: u64 = 1_577_836_800;

/// How to find out whether a number is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// By a bind to it with TCP.
    pub tcp: bool,
    /// By a bind to it with UDP.
    pub udp: bool,
    /// On all addresses at once, beside 127.0.0.1 and `::1`.
    pub wildcard: bool,
}

impl Probe {
    /// Not at all.
    pub const NONE: Self = Self { tcp: false, udp: false, wildcard: false };
    /// As ports are probed when nothing else is said.
    pub const PORTS: Self = Self { tcp: true, udp: true, wildcard: false };

    /// Takes a list such as `tcp,udp`. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut probe = Self::NONE;
        if text == "none" {
            return Some(probe);
        }
        for word in text.split(',') {
            match word {
                "tcp" => probe.tcp = true,
                "udp" => probe.udp = true,
                "wildcard" => probe.wildcard = true,
                _ => return None,
            }
        }
        if !probe.tcp && !probe.udp {
            (probe.tcp, probe.udp) = (true, true);
        }
        Some(probe)
    }

    /// Whether somebody uses a number, as the system tells without a bind. `None` where it does not.
    #[must_use]
    pub fn is_listened_on(self, number: u32) -> Option<bool> {
        if self == Self::NONE { Some(false) } else { port_owners::is_used(number, self.tcp, self.udp) }
    }

    /// Why a number cannot be used, if it cannot.
    pub fn finds(self, number: u32) -> Result<Option<Why>, NumberError> {
        let Ok(port) = u16::try_from(number) else { return Ok(None) };
        let transports = [(self.tcp, Transport::Tcp), (self.udp, Transport::Udp)];
        let addresses: [(bool, IpAddr); 4] = [
            (true, Ipv4Addr::LOCALHOST.into()),
            (true, Ipv6Addr::LOCALHOST.into()),
            (self.wildcard, Ipv4Addr::UNSPECIFIED.into()),
            (self.wildcard, Ipv6Addr::UNSPECIFIED.into()),
        ];
        for (_, transport) in transports.into_iter().filter(|(wanted, _)| *wanted) {
            for (_, address) in addresses.into_iter().filter(|(wanted, _)| *wanted) {
                let tried = os::try_bind(address, port, transport);
                match tried.map_err(|source| NumberError::Probe { number, source })? {
                    Trial::Free => {}
                    Trial::InUse => return Ok(Some(Why::InUse)),
                    Trial::NotAllowed => return Ok(Some(Why::NotAllowed)),
                }
            }
        }
        Ok(None)
    }
}

/// Which numbers may be given.
#[derive(Debug)]
pub struct Ask {
    /// Out of these.
    pub range: Range,
    /// But none of these, beside those that the registry excludes.
    pub exclude: Vec<Range>,
    /// And none that is in use, as this finds.
    pub probe: Probe,
}

/// Why a number cannot be given: what it is, to stand behind "it".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Not in the range.
    OutOfRange(Range),
    /// Kept for a key; which, if that was looked for.
    Reserved(Option<(Tag, PathBuf)>),
    /// Held by a command.
    Leased,
    /// Not to be leased: in the place of its lock file is something else, of this kind.
    Odd(&'static str),
    /// Excluded.
    Excluded,
    /// In use by somebody who does not ask here.
    InUse,
    /// Not for this user.
    NotAllowed,
    /// Not the one that the key has: this.
    Other(u32),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange(range) => write!(f, "is not in {range}"),
            Self::Reserved(None) => write!(f, "is reserved"),
            Self::Reserved(Some((tag, directory))) => {
                write!(f, "is reserved for {}{}", directory.display(), labelled(tag))
            }
            Self::Leased => write!(f, "is leased to a command"),
            Self::Odd(kind) => write!(f, "cannot be locked, because its lock file is a {kind}"),
            Self::Excluded => write!(f, "is excluded"),
            Self::InUse => write!(f, "is in use"),
            Self::NotAllowed => write!(f, "is not for this user to bind to"),
            Self::Other(has) => write!(f, "is not the number that is reserved here: {has}"),
        }
    }
}

fn labelled(tag: &Tag) -> String {
    if tag.as_str().is_empty() { String::new() } else { format!(" ({tag})") }
}

/// Of how many numbers of a range what is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Kept for a key.
    pub reserved: u32,
    /// Held by a command.
    pub leased: u32,
    /// Excluded.
    pub excluded: u32,
    /// In use by others.
    pub in_use: u32,
    /// Nothing.
    pub free: u32,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reserved, {} leased, {} excluded, {} in use",
            self.reserved, self.leased, self.excluded, self.in_use
        )?;
        if self.free > 0 { write!(f, ", {} free", self.free) } else { Ok(()) }
    }
}

/// What is known of the numbers of a range.
struct Judge<'a> {
    ask: &'a Ask,
    leases: &'a Leases,
    excluded: Vec<Range>,
    /// A bit for each number of the range.
    reserved: Vec<u64>,
    /// What was found out at some cost.
    known: HashMap<u32, Option<Why>>,
    /// What is in the place of a lock file, and is none.
    odd: Vec<PathBuf>,
}

impl<'a> Judge<'a> {
    fn new(registry: &'a Registry, ask: &'a Ask) -> Result<Self, NumberError> {
        let numbers = registry.book.numbers().ok_or_else(|| registry.damaged())?;
        let mut excluded = registry.book.exclusions();
        excluded.extend_from_slice(&ask.exclude);
        let size = (ask.range.last - ask.range.first) as usize / 64 + 1;
        let mut judge = Self {
            ask,
            leases: &registry.leases,
            excluded,
            reserved: vec![0; size],
            known: HashMap::new(),
            odd: Vec::new(),
        };
        for number in numbers.into_iter().filter(|number| ask.range.contains(*number)) {
            judge.take(number);
        }
        Ok(judge)
    }

    fn place(&self, number: u32) -> (usize, u64) {
        let at = (number - self.ask.range.first) as usize;
        (at / 64, 1 << (at % 64))
    }

    fn take(&mut self, number: u32) {
        let (word, bit) = self.place(number);
        self.reserved[word] |= bit;
    }

    fn why_not(&mut self, number: u32) -> Result<Option<Why>, NumberError> {
        if !self.ask.range.contains(number) {
            return Ok(Some(Why::OutOfRange(self.ask.range)));
        }
        let (word, bit) = self.place(number);
        if self.reserved[word] & bit != 0 {
            return Ok(Some(Why::Reserved(None)));
        }
        if self.excluded.iter().any(|range| range.contains(number)) {
            return Ok(Some(Why::Excluded));
        }
        if let Some(known) = self.known.get(&number) {
            return Ok(known.clone());
        }
        let why = match self.leases.is_leased(number) {
            Ok(true) => Some(Why::Leased),
            Ok(false) => self.ask.probe.finds(number)?,
            // One that nobody can lock is no reason to give none of the others.
            Err(NumberError::Lock(LockError::NotRegular { path, kind })) => {
                self.odd.push(path);
                Some(Why::Odd(kind))
            }
            Err(error) => return Err(error),
        };
        self.known.insert(number, why.clone());
        Ok(why)
    }

    /// Why a group cannot begin at `base`: the first of its numbers that cannot be had.
    fn why_not_at(&mut self, base: u32, offsets: &[u32]) -> Result<Option<(u32, Why)>, NumberError> {
        for offset in offsets {
            let Some(number) = base.checked_add(*offset) else {
                return Ok(Some((u32::MAX, Why::OutOfRange(self.ask.range))));
            };
            if let Some(why) = self.why_not(number)? {
                return Ok(Some((number, why)));
            }
        }
        Ok(None)
    }

    fn tally(&mut self) -> Result<Tally, NumberError> {
        let mut tally = Tally::default();
        for number in self.ask.range.first..=self.ask.range.last {
            *match self.why_not(number)? {
                Some(Why::Reserved(_) | Why::OutOfRange(_) | Why::Other(_)) => &mut tally.reserved,
                Some(Why::Leased | Why::Odd(_)) => &mut tally.leased,
                Some(Why::Excluded) => &mut tally.excluded,
                Some(Why::InUse | Why::NotAllowed) => &mut tally.in_use,
                None => &mut tally.free,
            } += 1;
        }
        Ok(tally)
    }
}

/// A number that is given.
#[derive(Debug)]
pub struct Given {
    /// The number.
    pub number: u32,
    /// For what.
    pub tag: Tag,
    /// Another that was preferred, and why it could not be had.
    pub unmet: Option<(u32, Why)>,
    /// Whether it was given before, and somebody uses it now.
    pub in_use: bool,
}

/// A row that is dropped.
#[derive(Debug)]
pub struct Dropped {
    /// The row.
    pub row: Row,
    /// Why.
    pub because: Because,
}

/// Why a row is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Its directory is gone.
    Gone,
    /// It was not used for so many days.
    Unused(u64),
    /// It was given back.
    Released,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// The numbers, in the order in which they were asked for.
    pub given: Vec<Given>,
    /// The base that a group was to have, and why it has another.
    pub unmet_base: Option<(u32, u32, Why)>,
    /// Whether one of them was not given before.
    pub is_new: bool,
    /// What was dropped to make room.
    pub dropped: Vec<Dropped>,
    /// What is in the place of the lock file of a number, which was passed over.
    pub odd: Vec<PathBuf>,
}

/// Plans numbers that are kept for `directory`: each key keeps the one that it has. The rows are changed, and not yet
/// written. With `gone`, rows may be dropped to make room: see [`lacks_room`].
pub fn keep(
    registry: &mut Registry,
    ask: &Ask,
    directory: &Path,
    group: &Group,
    gone: Option<&[u32]>,
) -> Result<Plan, NumberError> {
    let place = Place::of(directory).map_err(|source| NumberError::Directory { path: directory.to_owned(), source })?;
    let now = now();
    let mut rows: Vec<Option<Row>> = group.wants.iter().map(|want| registry.book.find(&want.tag, directory)).collect();
    // Before others are looked for: a row that is used now is none to be dropped to make room.
    for row in rows.iter_mut().flatten() {
        if row.used.abs_diff(now) >= NOTE_AFTER || row.place != place {
            (row.used, row.place) = (now, place.clone());
            registry.book.insert(row);
        }
    }
    let mut plan = Plan::default();
    let missing: Vec<&Want> =
        group.wants.iter().zip(&rows).filter(|(_, row)| row.is_none()).map(|(want, _)| want).collect();
    let is_new = !missing.is_empty();
    let mut placed = Vec::new();
    if is_new {
        // Beside those that the group has already, if that can be.
        let has = group.wants.iter().zip(&rows).filter_map(|(want, row)| row.as_ref()?.number.checked_sub(want.offset));
        placed = place_or_clear(registry, ask, group, &missing, &has.collect::<Vec<_>>(), gone, &mut plan)?;
    }
    plan.is_new = is_new;
    let mut placed = placed.into_iter();
    for (want, row) in group.wants.iter().zip(rows) {
        let Some(row) = row else {
            let Some(given) = placed.next() else { continue };
            let (number, tag, directory) = (given.number, want.tag.clone(), directory.to_owned());
            let place = place.clone();
            registry.book.insert(&Row { number, created: now, used: now, place, tag, directory });
            plan.given.push(given);
            continue;
        };
        let unmet =
            want.preferred.filter(|wanted| *wanted != row.number).map(|wanted| (wanted, Why::Other(row.number)));
        if let (Some((number, why)), true) = (&unmet, group.require) {
            return Err(NumberError::Required { number: *number, why: why.clone() });
        }
        // To bind would be in the way of its own server, if that begins just now.
        let in_use = match ask.probe.is_listened_on(row.number) {
            Some(in_use) => in_use,
            None => ask.probe.finds(row.number)? == Some(Why::InUse),
        };
        plan.given.push(Given { number: row.number, tag: want.tag.clone(), unmet, in_use });
    }
    Ok(plan)
}

/// Plans numbers for a command: others than those that are kept, also here.
pub fn lease(registry: &mut Registry, ask: &Ask, group: &Group, gone: Option<&[u32]>) -> Result<Plan, NumberError> {
    let mut plan = Plan::default();
    let wants: Vec<&Want> = group.wants.iter().collect();
    plan.given = place_or_clear(registry, ask, group, &wants, &[], gone, &mut plan)?;
    Ok(plan)
}

/// Whether a plan failed for want of numbers that rows have. Then the caller lets go of the registry, looks which rows are
/// [`gone`], and plans once more with these: to look for directories may take for ever, where a mount hangs, and nobody
/// else is to wait for that.
#[must_use]
pub fn lacks_room(error: &NumberError) -> bool {
    matches!(error, NumberError::Exhausted { .. } | NumberError::Required { why: Why::Reserved(_), .. })
}

/// Finds places; where there is none, once more without the rows that nobody needs: first those of directories that are
/// gone, and only if that is not enough, those that were not used for long. Only those that are in the way.
fn place_or_clear(
    registry: &mut Registry,
    ask: &Ask,
    group: &Group,
    wants: &[&Want],
    bases: &[u32],
    gone: Option<&[u32]>,
    plan: &mut Plan,
) -> Result<Vec<Given>, NumberError> {
    let mut placed = place(&mut Judge::new(registry, ask)?, group, wants, bases, plan);
    let Some(gone) = gone else { return placed };
    let mut dropped = Vec::new();
    for unused in [false, true] {
        let range = match &placed {
            Err(NumberError::Exhausted { .. }) => ask.range,
            Err(NumberError::Required { number, why: Why::Reserved(_) }) => Range { first: *number, last: *number },
            _ => break,
        };
        let more = if unused {
            drop_unused(registry, ask.probe, EXPIRE_DAYS, Some(range))?
        } else {
            let gone: Vec<u32> = gone.iter().copied().filter(|number| range.contains(*number)).collect();
            drop_gone(registry, &gone)?
        };
        if !more.is_empty() {
            dropped.extend(more);
            *plan = Plan::default();
            placed = place(&mut Judge::new(registry, ask)?, group, wants, bases, plan);
        }
    }
    plan.dropped = dropped;
    placed
}

fn place(
    judge: &mut Judge,
    group: &Group,
    wants: &[&Want],
    has: &[u32],
    plan: &mut Plan,
) -> Result<Vec<Given>, NumberError> {
    let mut given: Vec<Given> = Vec::new();
    let mut rest: Vec<(usize, u32)> = Vec::new();
    for (at, want) in wants.iter().enumerate() {
        let mut unmet = None;
        let mut number = None;
        if let Some(wanted) = want.preferred {
            match judge.why_not(wanted)? {
                None => {
                    judge.take(wanted);
                    number = Some(wanted);
                }
                Some(why) if group.require => return Err(NumberError::Required { number: wanted, why }),
                Some(why) => unmet = Some((wanted, why)),
            }
        }
        if number.is_none() {
            rest.push((at, want.offset));
        }
        given.push(Given { number: number.unwrap_or_default(), tag: want.tag.clone(), unmet, in_use: false });
    }
    if rest.is_empty() {
        plan.odd.append(&mut judge.odd);
        return Ok(given);
    }
    let offsets: Vec<u32> = rest.iter().map(|(_, offset)| *offset).collect();
    for base in has.iter().copied().chain(group.base).chain(judge.ask.range.first..=judge.ask.range.last) {
        match judge.why_not_at(base, &offsets)? {
            None => {
                for (at, offset) in rest {
                    given[at].number = base + offset;
                }
                plan.odd.append(&mut judge.odd);
                return Ok(given);
            }
            Some((number, why)) => {
                if group.base == Some(base) && plan.unmet_base.is_none() {
                    plan.unmet_base = Some((base, number, why));
                }
            }
        }
    }
    let tally = judge.tally()?;
    Err(NumberError::Exhausted { pool: group.pool.clone(), range: judge.ask.range, wanted: rest.len(), tally })
}

/// Says for whom those numbers are kept that could not be had for that reason.
pub fn name_owners(book: &Book, whys: &mut [&mut (u32, Why)]) {
    if !whys.iter().any(|unmet| matches!(unmet.1, Why::Reserved(None))) {
        return;
    }
    let rows = book.rows().unwrap_or_default();
    for (number, why) in whys.iter_mut().map(|unmet| (unmet.0, &mut unmet.1)) {
        let row = rows.iter().find(|row| row.number == number);
        if let (Why::Reserved(owner @ None), Some(row)) = (why, row) {
            *owner = Some((row.tag.clone(), row.directory.clone()));
        }
    }
}

/// The numbers whose directory is certainly gone. To look may take for ever, where a mount hangs: that is better done
/// without the lock, and then once more for these.
#[must_use]
pub fn gone(book: &Book) -> Vec<u32> {
    let rows = book.rows().unwrap_or_default().into_iter();
    rows.filter(|row| is_gone(&row.directory, &row.place)).map(|row| row.number).collect()
}

/// Whether there is a row that was not used for so long that it may be dropped to make room.
#[must_use]
pub fn has_unused(book: &Book) -> bool {
    let now = now();
    book.rows().unwrap_or_default().iter().any(|row| days_unused(row, now) >= Some(u64::from(EXPIRE_DAYS)))
}

/// For how many days a row was not used. `None` where its clock was not set yet, which proves nothing.
fn days_unused(row: &Row, now: u64) -> Option<u64> {
    (row.used >= CLOCK_SET).then(|| now.saturating_sub(row.used) / 86400)
}

/// Drops the rows of these numbers whose directory is certainly gone.
pub fn drop_gone(registry: &mut Registry, among: &[u32]) -> Result<Vec<Dropped>, NumberError> {
    drop_rows(registry, |row| {
        Ok((among.contains(&row.number) && is_gone(&row.directory, &row.place)).then_some(Because::Gone))
    })
}

/// Drops the rows that were not used for so many days, and whose number is not in use now; only of these numbers, if that
/// is said.
pub fn drop_unused(
    registry: &mut Registry,
    probe: Probe,
    days: u32,
    among: Option<Range>,
) -> Result<Vec<Dropped>, NumberError> {
    let now = now();
    let days_if_due = |row: &Row| {
        let meant = among.is_none_or(|among| among.contains(row.number));
        days_unused(row, now).filter(|unused| meant && *unused >= u64::from(days))
    };
    let rows = registry.book.rows().ok_or_else(|| registry.damaged())?;
    let due: Vec<u32> = rows.iter().filter(|row| days_if_due(row).is_some()).map(|row| row.number).collect();
    // Also on addresses that a trial bind does not try: a number must not be given twice because nobody looked.
    let listened = if probe == Probe::NONE || due.is_empty() { None } else { port_owners::find_port_owners(&due) };
    drop_rows(registry, |row| {
        let Some(days) = days_if_due(row) else { return Ok(None) };
        let in_use = listened.as_ref().is_some_and(|listened| listened.contains_key(&row.number))
            || probe.finds(row.number)? == Some(Why::InUse);
        Ok((!in_use).then_some(Because::Unused(days)))
    })
}

/// Drops the rows of a directory, of one tag or of all, and with `below` those of the directories below it.
pub fn release(
    registry: &mut Registry,
    directory: &Path,
    tag: Option<&Tag>,
    below: bool,
) -> Result<Vec<Dropped>, NumberError> {
    drop_rows(registry, |row| {
        let there = if below { row.directory.starts_with(directory) } else { row.directory == directory };
        Ok((there && tag.is_none_or(|tag| row.tag == *tag)).then_some(Because::Released))
    })
}

fn drop_rows(
    registry: &mut Registry,
    mut why: impl FnMut(&Row) -> Result<Option<Because>, NumberError>,
) -> Result<Vec<Dropped>, NumberError> {
    let rows = registry.book.rows().ok_or_else(|| registry.damaged())?;
    let mut dropped = Vec::new();
    for row in rows {
        if let Some(because) = why(&row)? {
            dropped.push(Dropped { row, because });
        }
    }
    if !dropped.is_empty() {
        let mut numbers: Vec<u32> = dropped.iter().map(|dropped| dropped.row.number).collect();
        numbers.sort_unstable();
        registry.book.retain(|row| numbers.binary_search(&row.number).is_err());
    }
    Ok(dropped)
}

/// Makes the rows of a directory, and of those below it, rows of where it is now. Which they were, in order.
pub fn migrate(registry: &mut Registry, from: &Path, to: &Path) -> Result<Vec<(Row, PathBuf)>, NumberError> {
    if to != from && to.starts_with(from) {
        return Err(NumberError::IntoItself { path: to.to_owned() });
    }
    let rows = registry.book.rows().ok_or_else(|| registry.damaged())?;
    let (moving, staying): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.directory.starts_with(from));
    let mut moved = Vec::new();
    for row in moving {
        let rest = row.directory.strip_prefix(from).unwrap_or(Path::new(""));
        // To join with nothing would leave a slash at the end.
        let path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
        if staying.iter().any(|other| other.tag == row.tag && other.directory == path) {
            let (tag, pool) = (row.tag.as_str().to_owned(), registry.pool.clone());
            return Err(NumberError::Occupied { path, tag, pool });
        }
        moved.push((row, path));
    }
    if !moved.is_empty() {
        registry.book.retain(|row| !row.directory.starts_with(from));
        for (row, path) in &moved {
            let place = Place::of(path).unwrap_or_default();
            registry.book.insert(&Row { directory: path.clone(), place, ..row.clone() });
        }
    }
    Ok(moved)
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
