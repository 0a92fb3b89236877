//! Which snapshots a policy keeps: a pure function of their manifests and what notes say of them.
//! docs/retention.md tells users the rules.
//!
//! Forgets nothing itself, and knows no time zone: days and weeks come from a [`Calendar`].

mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use group::{GroupBy, GroupKey, group};

use crate::clock::Timestamp;
use crate::format::objects::Manifest;
use crate::id::{SnapshotId, Uuid};

/// A moment as a clock on the wall of some zone shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i16,
    /// 1 … 12.
    pub month: i8,
    /// 1 … 31.
    pub day: i8,
    /// 0 … 23.
    pub hour: i8,
    /// Year that the ISO 8601 week belongs to.
    pub week_year: i16,
    /// ISO 8601 week, 1 … 53.
    pub week: i8,
}

/// A length of time as people say it: `1y5m7d2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        for (number, unit) in parts.iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        Ok(())
    }
}

/// Days, weeks, months and years of one zone.
pub trait Calendar {
    /// What a clock on the wall shows at a moment.
    fn civil(&self, time: Timestamp) -> Civil;

    /// The moment that lies a span before another.
    fn before(&self, time: Timestamp, span: Span) -> Timestamp;
}

/// A period of which one snapshot is kept: the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// Every snapshot is one of its own.
    Each,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// Two snapshots with the same value lie in one period.
    fn of(self, snapshot: &Manifest, civil: &Civil) -> (i16, i8, i8, i8, Uuid) {
        let none = Uuid([0; 16]);
        match self {
            Period::Each => (0, 0, 0, 0, snapshot.name),
            Period::Hour => (civil.year, civil.month, civil.day, civil.hour, none),
            Period::Day => (civil.year, civil.month, civil.day, 0, none),
            Period::Week => (civil.week_year, civil.week, 0, 0, none),
            Period::Month => (civil.year, civil.month, 0, 0, none),
            Period::Year => (civil.year, 0, 0, 0, none),
        }
    }
}

/// How far back a rule keeps the newest of each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// So many periods in which there is a snapshot.
    Count(u64),
    /// All of them.
    All,
    /// Those less than a span before the newest snapshot that is not in the future.
    Within(Span),
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Of which periods the newest is kept.
    pub period: Period,
    /// How far back.
    pub reach: Reach,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period {
            Period::Each => "",
            Period::Hour => "hourly",
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Year => "yearly",
        };
        match (self.period, self.reach) {
            (Period::Each, Reach::Within(span)) => write!(f, "within {span}"),
            (_, Reach::Within(span)) => write!(f, "{period} within {span}"),
            (Period::Each, _) => write!(f, "last"),
            _ => write!(f, "{period}"),
        }
    }
}

/// What is kept. A snapshot is kept when any part of it says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Rules that count or measure.
    pub rules: Vec<Rule>,
    /// Sets of tags: a snapshot that bears all of one set is kept. The empty set keeps untagged
    /// ones.
    pub tags: Vec<Vec<String>>,
    /// Beginnings of ids.
    pub ids: Vec<String>,
    /// What becomes of a group that nothing else keeps a complete snapshot of.
    pub last: LastOne,
}

impl Policy {
    /// Whether it keeps nothing at all.
    pub fn is_empty(&self) -> bool {
        let off = |rule: &Rule| rule.reach == Reach::Count(0);
        self.rules.iter().all(off) && self.tags.is_empty() && self.ids.is_empty()
    }
}

/// The newest complete snapshot of a group, when no rule keeps a complete one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastOne {
    /// It stays.
    #[default]
    Stays,
    /// It may go, and with it the whole group.
    MayGo,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the newest of a period.
    Rule(Rule),
    /// It is the oldest of all, and the rule's count is not reached.
    Oldest(Rule),
    /// It bears these tags.
    Tags(Vec<String>),
    /// Its id begins so.
    Id(String),
    /// It is protected.
    Protected,
    /// It is a checkpoint: the run that it belongs to forgets it.
    Partial,
    /// No other complete one of its group would be left.
    LastComplete,
    /// The group has no complete one, and no other would be left.
    OnlyOne,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rule(rule) => write!(f, "{rule}"),
            Reason::Oldest(rule) => write!(f, "oldest {rule}"),
            Reason::Tags(tags) if tags.is_empty() => write!(f, "untagged"),
            Reason::Tags(tags) => write!(f, "tags {}", tags.join(",")),
            Reason::Id(id) => write!(f, "id {id}"),
            Reason::Protected => write!(f, "protected"),
            Reason::Partial => write!(f, "partial"),
            Reason::LastComplete => write!(f, "last complete"),
            Reason::OnlyOne => write!(f, "last of its group"),
        }
    }
}

/// What a policy says of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot's name.
    pub name: Uuid,
    /// Why it is kept; empty when it is to be forgotten.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether it is kept.
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What a policy is applied with.
pub struct Given<'a> {
    /// Days and weeks.
    pub calendar: &'a dyn Calendar,
    /// Snapshots after this moment are in the future: spans are not measured from them.
    pub now: Timestamp,
    /// Snapshots that are never forgotten.
    pub protected: &'a BTreeSet<SnapshotId>,
}

/// Applies a policy to the snapshots of one group. The verdicts are in their order; what they say
/// does not depend on it.
pub fn apply(policy: &Policy, snapshots: &[Manifest], given: &Given<'_>) -> Vec<Verdict> {
    let mut newest_first: Vec<&Manifest> = snapshots.iter().filter(|m| !m.partial).collect();
    newest_first.sort_by_key(|m| std::cmp::Reverse((m.time, m.name)));
    let mut reasons: BTreeMap<Uuid, Vec<Reason>> = BTreeMap::new();
    for rule in &policy.rules {
        for (name, reason) in Counting::new(*rule, &newest_first, given).run(&newest_first) {
            reasons.entry(name).or_default().push(reason);
        }
    }
    for manifest in snapshots {
        let own = reasons.entry(manifest.name).or_default();
        own.extend(uncounted(policy, manifest, given));
    }
    if policy.last == LastOne::Stays {
        keep_last_one(&newest_first, &mut reasons);
    }
    let verdict = |m: &Manifest| Verdict {
        name: m.name,
        reasons: reasons.get(&m.name).cloned().unwrap_or_default(),
    };
    snapshots.iter().map(verdict).collect()
}

/// Reasons of one snapshot that do not depend on others.
fn uncounted(policy: &Policy, manifest: &Manifest, given: &Given<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if manifest.partial {
        reasons.push(Reason::Partial);
    }
    if given.protected.contains(&manifest.id) {
        reasons.push(Reason::Protected);
    }
    let bears = |set: &&Vec<String>| match set.is_empty() {
        true => manifest.tags.is_empty(),
        false => set.iter().all(|t| manifest.tags.contains(t)),
    };
    reasons.extend(policy.tags.iter().filter(bears).cloned().map(Reason::Tags));
    let id = manifest.id.to_string();
    let begins = |prefix: &&String| id.starts_with(prefix.as_str());
    reasons.extend(policy.ids.iter().filter(begins).cloned().map(Reason::Id));
    reasons
}

/// A rule never leaves a group without a complete snapshot, nor empty.
fn keep_last_one(newest_first: &[&Manifest], reasons: &mut BTreeMap<Uuid, Vec<Reason>>) {
    let complete = newest_first.iter().filter(|m| !m.incomplete);
    let (of, reason) = match complete.clone().next() {
        Some(_) => (complete.collect::<Vec<_>>(), Reason::LastComplete),
        None => (newest_first.iter().collect(), Reason::OnlyOne),
    };
    let is_kept = |m: &&Manifest| reasons.get(&m.name).is_some_and(|r| !r.is_empty());
    if of.iter().any(|m| is_kept(m)) {
        return;
    }
    if let Some(newest) = of.first() {
        reasons.entry(newest.name).or_default().push(reason);
    }
}

/// What a rule has still to give, going from the newest to the oldest.
struct Bucket {
    left: u64,
    last: Option<(i16, i8, i8, i8, Uuid)>,
    oldest: Option<Uuid>,
}

impl Bucket {
    fn new<'m>(rule: Rule, newest_first: impl Iterator<Item = &'m Manifest>) -> Bucket {
        let left = match rule.reach {
            Reach::Count(count) => count,
            Reach::All | Reach::Within(_) => u64::MAX,
        };
        Bucket {
            left,
            last: None,
            oldest: newest_first.last().map(|m| m.name),
        }
    }

    fn would_keep(&self, rule: Rule, manifest: &Manifest, civil: &Civil) -> Option<Reason> {
        if self.left == 0 {
            return None;
        }
        if self.last != Some(rule.period.of(manifest, civil)) {
            return Some(Reason::Rule(rule));
        }
        (self.oldest == Some(manifest.name)).then_some(Reason::Oldest(rule))
    }

    fn take(&mut self, rule: Rule, manifest: &Manifest, civil: &Civil) {
        self.last = Some(rule.period.of(manifest, civil));
        if self.left != u64::MAX {
            self.left -= 1;
        }
    }
}

/// One rule at work. Incomplete snapshots are counted apart: they never take the place of a
/// complete one, and are kept only where a complete one in their place would be.
struct Counting<'a> {
    rule: Rule,
    calendar: &'a dyn Calendar,
    after: Option<Timestamp>,
    complete: Bucket,
    incomplete: Bucket,
}

impl<'a> Counting<'a> {
    fn new(rule: Rule, newest_first: &[&Manifest], given: &Given<'a>) -> Counting<'a> {
        let after = match rule.reach {
            Reach::Within(span) => {
                let past = newest_first.iter().map(|m| m.time);
                let newest = past.filter(|t| *t <= given.now).max();
                Some(given.calendar.before(newest.unwrap_or(given.now), span))
            }
            Reach::Count(_) | Reach::All => None,
        };
        let all = newest_first.iter().copied();
        Counting {
            rule,
            calendar: given.calendar,
            after,
            complete: Bucket::new(rule, all.clone().filter(|m| !m.incomplete)),
            incomplete: Bucket::new(rule, all.filter(|m| m.incomplete)),
        }
    }

    fn run(mut self, newest_first: &[&Manifest]) -> Vec<(Uuid, Reason)> {
        let is_within = |m: &&&Manifest| self.after.is_none_or(|after| m.time > after);
        let within: Vec<&Manifest> = newest_first.iter().filter(is_within).copied().collect();
        let judged = within
            .into_iter()
            .filter_map(|m| Some((m.name, self.judge(m)?)));
        judged.collect()
    }

    fn judge(&mut self, manifest: &Manifest) -> Option<Reason> {
        let civil = self.calendar.civil(manifest.time);
        if !manifest.incomplete {
            let reason = self.complete.would_keep(self.rule, manifest, &civil)?;
            self.complete.take(self.rule, manifest, &civil);
            return Some(reason);
        }
        self.complete.would_keep(self.rule, manifest, &civil)?;
        let reason = self.incomplete.would_keep(self.rule, manifest, &civil)?;
        self.incomplete.take(self.rule, manifest, &civil);
        Some(reason)
    }
}

#[cfg(test)]
mod tests;
