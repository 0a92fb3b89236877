//! Retention: documented examples of tools whose rules are the same, and 10,000 random policies
//! beside a model that says the rules in another way.

use proptest::prelude::*;

use super::*;

/// The calendar of UTC, by the arithmetic of the Gregorian calendar alone.
struct Utc;

/// Days from 1970-01-01 to a date (months may run over, days may be 1 … 31 only).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = (
        year + (month - 1).div_euclid(12),
        (month - 1).rem_euclid(12) + 1,
    );
    let shifted = year - i64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    shifted * 365 + shifted.div_euclid(4) - shifted.div_euclid(100)
        + shifted.div_euclid(400)
        + of_year
        - 719_468
}

fn date(day: i64) -> (i64, i64, i64) {
    let mut year = 1968 + day.div_euclid(366);
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rfind(|m| days(year, *m, 1) <= day).unwrap();
    (year, month, day - days(year, month, 1) + 1)
}

impl Calendar for Utc {
    fn civil(&self, time: Timestamp) -> Civil {
        let day = time.seconds.div_euclid(86_400);
        let (year, month, of_month) = date(day);
        // The week belongs to the year of its Thursday; day 0 was a Thursday.
        let thursday = day - (day + 3).rem_euclid(7) + 3;
        let week_year = date(thursday).0;
        Civil {
            year: year as i16,
            month: month as i8,
            day: of_month as i8,
            hour: (time.seconds.rem_euclid(86_400) / 3600) as i8,
            week_year: week_year as i16,
            week: ((thursday - days(week_year, 1, 1)) / 7 + 1) as i8,
        }
    }

    fn before(&self, time: Timestamp, span: Span) -> Timestamp {
        let (year, month, day) = date(time.seconds.div_euclid(86_400));
        let month = month - i64::from(span.months);
        let year = year - i64::from(span.years);
        let length = days(year, month + 1, 1) - days(year, month, 1);
        let date = days(year, month, day.min(length)) - i64::from(span.days);
        let seconds = date * 86_400 + time.seconds.rem_euclid(86_400);
        Timestamp {
            seconds: seconds - i64::from(span.hours) * 3600,
            ..time
        }
    }
}

fn at(year: i64, month: i64, day: i64, hour: i64) -> Timestamp {
    Timestamp {
        seconds: days(year, month, day) * 86_400 + hour * 3600,
        nanos: 0,
    }
}

/// A snapshot whose name and id follow from a number.
fn snapshot(number: u32, time: Timestamp) -> Manifest {
    let mut name = [0; 16];
    name[..4].copy_from_slice(&number.to_be_bytes());
    Manifest {
        name: Uuid(name),
        id: SnapshotId(name),
        time,
        zone_offset: 0,
        host: "h".into(),
        user: String::new(),
        paths: vec![b"/p".to_vec()],
        tags: vec![],
        label: None,
        root: None,
        entries: 0,
        files: 0,
        bytes: 0,
        new_bytes: 0,
        new_stored: 0,
        incomplete: false,
        partial: false,
        unfinished: None,
        parent: None,
        origin: None,
        program: String::new(),
        problems: vec![],
        problem_count: 0,
        duration_ms: 0,
        members: vec![],
        unknown: vec![],
    }
}

fn each(times: impl IntoIterator<Item = Timestamp>) -> Vec<Manifest> {
    let numbered = (0..).zip(times);
    numbered
        .map(|(number, time)| snapshot(number, time))
        .collect()
}

fn count(period: Period, count: u64) -> Rule {
    let reach = Reach::Count(count);
    Rule { period, reach }
}

fn within(period: Period, span: Span) -> Rule {
    let reach = Reach::Within(span);
    Rule { period, reach }
}

fn policy(rules: &[Rule]) -> Policy {
    Policy {
        rules: rules.to_vec(),
        ..Policy::default()
    }
}

fn judge(policy: &Policy, snapshots: &[Manifest], protected: &[SnapshotId]) -> Vec<Verdict> {
    let protected = protected.iter().copied().collect();
    let given = Given {
        calendar: &Utc,
        now: at(2100, 1, 1, 0),
        protected: &protected,
    };
    apply(policy, snapshots, &given)
}

/// The dates that are kept, `month-day`, in order.
fn kept(policy: &Policy, snapshots: &[Manifest]) -> Vec<String> {
    let verdicts = judge(policy, snapshots, &[]);
    let pairs = snapshots.iter().zip(&verdicts).filter(|(_, v)| v.keeps());
    let day = |m: &Manifest| date(m.time.seconds.div_euclid(86_400));
    pairs
        .map(|(m, _)| day(m))
        .map(|(_, month, day)| format!("{month}-{day}"))
        .collect()
}

fn daily(from: i64, to: i64) -> Vec<Manifest> {
    each((from..=to).map(|day| Timestamp {
        seconds: day * 86_400 + 11 * 3600,
        nanos: 0,
    }))
}

// restic, "Removing snapshots according to a policy": a backup every Sunday for 12 weeks.
#[test]
fn restic_twelve_sundays() {
    let first = days(2019, 9, 1);
    let sundays = each((0..12).map(|week| Timestamp {
        seconds: (first + 7 * week) * 86_400 + 11 * 3600,
        nanos: 0,
    }));
    let last_four = ["10-27", "11-3", "11-10", "11-17"];
    assert_eq!(kept(&policy(&[count(Period::Day, 4)]), &sundays), last_four);
    assert_eq!(
        kept(&policy(&[count(Period::Week, 4)]), &sundays),
        last_four
    );
    assert_eq!(
        kept(&policy(&[count(Period::Each, 4)]), &sundays),
        last_four
    );
    // One rule is enough to be kept, and the oldest stays while a count is not reached.
    let both = policy(&[count(Period::Day, 1), count(Period::Year, 3)]);
    assert_eq!(kept(&both, &sundays), ["9-1", "11-17"]);
}

// restic, the same page: a backup every day for 100 years.
#[test]
fn restic_a_hundred_years() {
    let all = daily(days(1919, 12, 30), days(2019, 12, 29));
    let rules = [
        count(Period::Day, 7),
        count(Period::Week, 5),
        count(Period::Month, 12),
        count(Period::Year, 75),
    ];
    let verdicts = judge(&policy(&rules), &all, &[]);
    let by = |rule: Rule| {
        let reason = Reason::Rule(rule);
        verdicts
            .iter()
            .filter(|v| v.reasons.contains(&reason))
            .count()
    };
    assert_eq!(rules.map(by), [7, 5, 12, 75]);
    let total = verdicts.iter().filter(|v| v.keeps()).count();
    // 7 days, 4 more weeks, 11 more months, 74 more years.
    assert_eq!(total, 7 + 4 + 11 + 74);
    let span = |years, months, days| Span {
        years,
        months,
        days,
        hours: 0,
    };
    let rules = [
        within(Period::Day, span(0, 0, 7)),
        within(Period::Week, span(0, 1, 0)),
        within(Period::Month, span(1, 0, 0)),
        within(Period::Year, span(75, 0, 0)),
    ];
    let verdicts = judge(&policy(&rules), &all, &[]);
    let total = verdicts.iter().filter(|v| v.keeps()).count();
    // 23 to 29 December; the Sundays 1 to 22 December; the last days of December 2018 to November;
    // the last days of 1944 to 2018, one of which was counted.
    assert_eq!(total, 7 + 4 + 12 + 75 - 1);
}

// borg, "prune visualized". borg's rules pass over what an earlier rule keeps, ours do not, so the
// numbers of months and years that give the same are greater by the one that the days kept.
#[test]
fn borg_a_year_of_days() {
    let mut year = daily(days(2015, 1, 1), days(2015, 12, 31));
    year.retain(|m| m.time != at(2015, 12, 19, 11));
    let rules = [
        count(Period::Day, 14),
        count(Period::Month, 7),
        count(Period::Year, 2),
    ];
    let mut expected = vec!["1-1".to_owned()];
    expected.extend(["6-30", "7-31", "8-31", "9-30", "10-31", "11-30"].map(str::to_owned));
    let december = (17..=31).filter(|day| *day != 19);
    expected.extend(december.map(|day| format!("12-{day}")));
    assert_eq!(kept(&policy(&rules), &year), expected);
}

#[test]
fn weeks_are_those_of_iso_8601() {
    // 2020 has 53 weeks; 1 to 3 January 2021 belong to the last.
    let days_between = daily(days(2020, 12, 26), days(2021, 1, 11));
    let weeks = kept(&policy(&[count(Period::Week, 4)]), &days_between);
    assert_eq!(weeks, ["12-27", "1-3", "1-10", "1-11"]);
    let civil = Utc.civil(at(2021, 1, 3, 5));
    assert_eq!((civil.week_year, civil.week, civil.year), (2020, 53, 2021));
    let civil = Utc.civil(at(2018, 12, 31, 0));
    assert_eq!((civil.week_year, civil.week), (2019, 1));
}

#[test]
fn spans_are_measured_from_the_newest_that_is_not_in_the_future() {
    let all = each([
        at(2026, 3, 1, 0),
        at(2026, 3, 30, 12),
        at(2026, 3, 31, 11),
        at(2026, 3, 31, 12),
        at(2200, 1, 1, 0),
    ]);
    let span = |months, days, hours| Span {
        years: 0,
        months,
        days,
        hours,
    };
    let keeps = |span| kept(&policy(&[within(Period::Each, span)]), &all);
    assert_eq!(keeps(span(0, 0, 1)), ["3-31", "1-1"]);
    // Exactly a day before is not within a day.
    assert_eq!(keeps(span(0, 1, 0)), ["3-31", "3-31", "1-1"]);
    assert_eq!(keeps(span(0, 1, 1)).len(), 4);
    assert_eq!(
        keeps(span(1, 0, 0)).len(),
        5,
        "28 February is a month before"
    );
    let last = count(Period::Each, 1);
    assert_eq!(kept(&policy(&[last]), &all), ["1-1"]);
    assert_eq!(span(1, 7, 2).to_string(), "1m7d2h");
}

#[test]
fn incomplete_ones_take_nobodys_place_and_are_not_kept_for_ever() {
    let mut all = daily(days(2026, 1, 1), days(2026, 1, 10));
    for number in [2, 4, 8, 9] {
        all[number].incomplete = true;
    }
    let keeps = kept(&policy(&[count(Period::Each, 2)]), &all);
    // Two complete ones, and the incomplete ones after the older of them.
    assert_eq!(keeps, ["1-7", "1-8", "1-9", "1-10"]);
    // Where nothing is ever complete the counts hold all the same.
    all.iter_mut().for_each(|m| m.incomplete = true);
    assert_eq!(kept(&policy(&[count(Period::Day, 3)]), &all).len(), 3);
    // The newest complete one stays whatever the rules say, unless that is asked for.
    all[0].incomplete = false;
    let mut by_tag = policy(&[within(
        Period::Each,
        Span {
            days: 2,
            ..Span::default()
        },
    )]);
    assert_eq!(kept(&by_tag, &all), ["1-1", "1-9", "1-10"]);
    by_tag = Policy {
        tags: vec![vec!["none".into()]],
        ..Policy::default()
    };
    assert_eq!(kept(&by_tag, &all), ["1-1"]);
    by_tag.last = LastOne::MayGo;
    assert!(kept(&by_tag, &all).is_empty());
}

#[test]
fn tags_ids_protected_and_partial_use_no_counts() {
    let mut all = daily(days(2026, 1, 1), days(2026, 1, 8));
    all[0].tags = vec!["a".into(), "b".into()];
    all[1].tags = vec!["a".into()];
    all[7].partial = true;
    let mut rules = policy(&[count(Period::Each, 1)]);
    rules.tags = vec![vec!["b".into(), "a".into()]];
    rules.ids = vec![format!("{:.8}", all[3].id)];
    let protected = [all[4].id];
    let verdicts = judge(&rules, &all, &protected);
    let keeps: Vec<usize> = (0..8).filter(|n| verdicts[*n].keeps()).collect();
    assert_eq!(keeps, [0, 3, 4, 6, 7]);
    let said: Vec<String> = verdicts
        .iter()
        .flat_map(|v| &v.reasons)
        .map(Reason::to_string)
        .collect();
    assert_eq!(
        said,
        ["tags b,a", "id 00000003", "protected", "last", "partial"]
    );
    rules.tags = vec![vec![]];
    let verdicts = judge(&rules, &all, &protected);
    assert!(!verdicts[0].keeps() && !verdicts[1].keeps() && verdicts[2].keeps());
}

#[test]
fn nothing_typed_is_an_empty_policy() {
    assert!(policy(&[count(Period::Day, 0)]).is_empty());
    assert!(!policy(&[count(Period::Day, 1)]).is_empty());
    assert!(
        !Policy {
            ids: vec!["a".into()],
            ..Policy::default()
        }
        .is_empty()
    );
}

#[test]
fn groups_have_in_common_what_was_asked_for() {
    let mut all = daily(days(2026, 1, 1), days(2026, 1, 4));
    all[0].host = "other".into();
    all[1].paths = vec![b"/q".to_vec(), b"/p".to_vec()];
    all[2].tags = vec!["t".into()];
    let number = |host, paths, tags| group(GroupBy { host, paths, tags }, all.clone()).len();
    assert_eq!(number(false, false, false), 1);
    assert_eq!(number(true, false, false), 2);
    assert_eq!(number(true, true, false), 3);
    assert_eq!(number(true, true, true), 4);
    let groups = group(GroupBy::default(), all);
    let paths = |key: &GroupKey| key.paths.clone().unwrap_or_default();
    assert!(
        groups
            .keys()
            .any(|k| paths(k) == [b"/p".to_vec(), b"/q".to_vec()])
    );
}

/// The rules, said from the other end: which snapshots stand for their period, and how many of
/// these count.
struct Model<'a> {
    rule: Rule,
    limit: usize,
    from: Option<Timestamp>,
    newest_first: Vec<&'a Manifest>,
}

impl<'a> Model<'a> {
    fn new(rule: Rule, all: &'a [Manifest], now: Timestamp) -> Model<'a> {
        let mut newest_first: Vec<&Manifest> = all.iter().filter(|m| !m.partial).collect();
        newest_first.sort_by_key(|m| std::cmp::Reverse((m.time, m.name)));
        let limit = match rule.reach {
            Reach::Count(count) => usize::try_from(count).unwrap(),
            _ => usize::MAX,
        };
        let times = newest_first.iter().map(|m| m.time);
        let newest = times.filter(|t| *t <= now).max().unwrap_or(now);
        let from = match rule.reach {
            Reach::Within(span) => Some(Utc.before(newest, span)),
            _ => None,
        };
        Model {
            rule,
            limit,
            from,
            newest_first,
        }
    }

    fn key(&self, m: &Manifest) -> (i16, i8, i8, i8, Uuid) {
        self.rule.period.of(m, &Utc.civil(m.time))
    }

    fn is_inside(&self, m: &Manifest) -> bool {
        self.from.is_none_or(|from| m.time > from)
    }

    /// Of a list as if there were no other snapshots.
    fn chosen(&self, list: &[&Manifest]) -> BTreeSet<Uuid> {
        let inside: Vec<&Manifest> = list.iter().filter(|m| self.is_inside(m)).copied().collect();
        let heads = (0..inside.len())
            .filter(|n| *n == 0 || self.key(inside[*n]) != self.key(inside[n - 1]))
            .map(|n| inside[n].name);
        let heads: Vec<Uuid> = heads.collect();
        let mut names: BTreeSet<Uuid> = heads.iter().take(self.limit).copied().collect();
        // The oldest of all, if it lies inside and a count is left.
        let oldest = list.last().filter(|m| self.is_inside(m));
        names.extend(oldest.filter(|_| heads.len() < self.limit).map(|m| m.name));
        names
    }

    /// Incomplete ones: those that would be kept if they were complete and alone among complete
    /// ones, counted among themselves in this order.
    fn kept(&self) -> BTreeSet<Uuid> {
        let split = |incomplete| {
            let list = self.newest_first.iter().copied();
            list.filter(|m| m.incomplete == incomplete)
                .collect::<Vec<&Manifest>>()
        };
        let (complete, incomplete) = (split(false), split(true));
        let of_complete = self.chosen(&complete);
        let mut names = of_complete.clone();
        let (mut taken, mut last) = (0, None);
        for candidate in &incomplete {
            let when = |m: &Manifest| (m.time, m.name);
            let newer: Vec<&&Manifest> = complete
                .iter()
                .filter(|m| when(m) > when(candidate))
                .collect();
            let used = newer.iter().filter(|m| of_complete.contains(&m.name));
            let before = newer.last().map(|m| self.key(m));
            let key = self.key(candidate);
            let fits = used.count() < self.limit && before != Some(key);
            let oldest = incomplete.last().map(|m| m.name) == Some(candidate.name);
            let own = (last != Some(key) || oldest) && taken < self.limit;
            if fits && own && self.is_inside(candidate) {
                names.insert(candidate.name);
                last = Some(key);
                taken += 1;
            }
        }
        names
    }
}

fn periods() -> impl Strategy<Value = Period> {
    use Period::{Day, Each, Hour, Month, Week, Year};
    prop::sample::select(vec![Each, Hour, Day, Week, Month, Year])
}

fn rules() -> impl Strategy<Value = Rule> {
    let span = (0u32..3, 0u32..14, 0u32..40, 1u32..50);
    let span = span.prop_map(|(years, months, days, hours)| Span {
        years,
        months,
        days,
        hours,
    });
    let reach = prop_oneof![
        6 => (0u64..9).prop_map(Reach::Count),
        1 => Just(Reach::All),
        3 => span.prop_map(Reach::Within),
    ];
    (periods(), reach).prop_map(|(period, reach)| Rule { period, reach })
}

/// Snapshots over about three years, in bursts, with equal times among them.
fn histories(incomplete: bool) -> impl Strategy<Value = Vec<Manifest>> {
    let one = (0i64..1100, 0i64..30, 0u8..10, prop::bool::weighted(0.2));
    prop::collection::vec(one, 0..40).prop_map(move |list| {
        let start = days(2024, 6, 1) * 86_400;
        let mut all = each(list.iter().map(|(day, half_hour, ..)| Timestamp {
            seconds: start + day * 86_400 + half_hour * 1800,
            nanos: 0,
        }));
        for (manifest, (.., kind, is_incomplete)) in all.iter_mut().zip(&list) {
            manifest.incomplete = incomplete && *is_incomplete;
            manifest.partial = *kind == 0;
            manifest.tags = (*kind < 3).then(|| "t".to_owned()).into_iter().collect();
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn ten_thousand_policies_as_the_model_says(
        all in prop_oneof![histories(false), histories(true)],
        list in prop::collection::vec(rules(), 0..4),
        last in prop::bool::ANY,
        now in 0i64..1200,
    ) {
        let mut policy = policy(&list);
        policy.last = if last { LastOne::Stays } else { LastOne::MayGo };
        let now = Timestamp { seconds: (days(2024, 6, 1) + now) * 86_400, nanos: 0 };
        let given = Given { calendar: &Utc, now, protected: &BTreeSet::new() };
        let models = list.iter().flat_map(|r| Model::new(*r, &all, now).kept());
        let mut expected: BTreeSet<Uuid> = models.collect();
        let whole: Vec<&Manifest> = all.iter().filter(|m| !m.partial).collect();
        let complete = whole.iter().filter(|m| !m.incomplete).max_by_key(|m| (m.time, m.name));
        let any_complete = whole.iter().any(|m| !m.incomplete && expected.contains(&m.name));
        let newest = whole.iter().max_by_key(|m| (m.time, m.name));
        if last && complete.is_some() && !any_complete {
            expected.extend(complete.map(|m| m.name));
        } else if last && expected.is_empty() {
            expected.extend(newest.map(|m| m.name));
        }
        expected.extend(all.iter().filter(|m| m.partial).map(|m| m.name));
        let verdicts = apply(&policy, &all, &given);
        let kept: BTreeSet<Uuid> = verdicts.iter().filter(|v| v.keeps()).map(|v| v.name).collect();
        prop_assert_eq!(kept, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn more_rules_keep_more_order_is_nothing_and_protected_ones_stay(
        (all, shuffled) in histories(true).prop_flat_map(|all| {
            (Just(all.clone()), Just(all).prop_shuffle())
        }),
        list in prop::collection::vec(rules(), 0..4),
        more in rules(),
        protect in 0usize..40,
    ) {
        let policy = policy(&list);
        let protected: Vec<SnapshotId> = all.get(protect).map(|m| m.id).into_iter().collect();
        let names = |verdicts: Vec<Verdict>| -> BTreeSet<Uuid> {
            verdicts.iter().filter(|v| v.keeps()).map(|v| v.name).collect()
        };
        let kept = names(judge(&policy, &all, &protected));
        prop_assert_eq!(&kept, &names(judge(&policy, &shuffled, &protected)));
        prop_assert!(all.get(protect).is_none_or(|m| kept.contains(&m.name)));
        let is_last = |v: &&Verdict| {
            v.reasons != [Reason::LastComplete] && v.reasons != [Reason::OnlyOne]
        };
        // The last one that a policy leaves needs not stay when another rule keeps another.
        let by_rules: BTreeSet<Uuid> = judge(&policy, &all, &protected)
            .iter()
            .filter(|v| v.keeps())
            .filter(is_last)
            .map(|v| v.name)
            .collect();
        let mut longer = policy.clone();
        longer.rules.push(more);
        prop_assert!(by_rules.is_subset(&names(judge(&longer, &all, &protected))));
        longer = policy.clone();
        longer.tags.push(vec!["t".into()]);
        prop_assert!(by_rules.is_subset(&names(judge(&longer, &all, &protected))));
    }
}
