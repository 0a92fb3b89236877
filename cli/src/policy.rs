//! What `--keep-…` and `--group-by` mean.

use hucha_store::retention::{GroupBy, LastOne, Period, Policy, Reach, Rule, Span};

use crate::args::KeepArgs;

/// Reads a number of snapshots: `7`, `-1` or `unlimited`.
///
/// # Errors
/// When it is neither.
pub fn parse_reach(text: &str) -> Result<Reach, String> {
    match text {
        "-1" | "unlimited" => Ok(Reach::All),
        _ => text
            .parse()
            .map(Reach::Count)
            .map_err(|_| "write a number, or `unlimited`".to_owned()),
    }
}

/// Reads a length of time: `1y5m7d2h`.
///
/// # Errors
/// When it is none, or has no length.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let bad = || "write years, months, days and hours as `1y5m7d2h`".to_owned();
    let mut span = Span::default();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let number: u32 = number.parse().map_err(|_| bad())?;
        let mut letters = after.chars();
        let part = match letters.next() {
            Some('y') => &mut span.years,
            Some('m') => &mut span.months,
            Some('d') => &mut span.days,
            Some('h') => &mut span.hours,
            _ => return Err(bad()),
        };
        if *part != 0 {
            return Err(bad());
        }
        *part = number;
        rest = letters.as_str();
    }
    match span == Span::default() {
        true => Err(bad()),
        false => Ok(span),
    }
}

/// Reads what makes a group: `host`, `paths`, `tags`, with commas between, or nothing.
///
/// # Errors
/// When something else is named.
pub fn parse_groups(text: &str) -> Result<GroupBy, String> {
    let mut by = GroupBy {
        host: false,
        paths: false,
        tags: false,
    };
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "host" | "hosts" => by.host = true,
            "path" | "paths" => by.paths = true,
            "tag" | "tags" => by.tags = true,
            _ => return Err("write `host`, `paths`, `tags` with commas between, or ''".into()),
        }
    }
    Ok(by)
}

/// The policy that was typed.
pub fn policy(args: &KeepArgs, last: LastOne) -> Policy {
    use Period::{Day, Each, Hour, Month, Week, Year};
    let counts = [
        (Each, args.keep_last),
        (Hour, args.keep_hourly),
        (Day, args.keep_daily),
        (Week, args.keep_weekly),
        (Month, args.keep_monthly),
        (Year, args.keep_yearly),
    ];
    let spans = [
        (Each, args.keep_within),
        (Hour, args.keep_within_hourly),
        (Day, args.keep_within_daily),
        (Week, args.keep_within_weekly),
        (Month, args.keep_within_monthly),
        (Year, args.keep_within_yearly),
    ];
    let within = spans.map(|(period, span)| (period, span.map(Reach::Within)));
    let rules = counts.into_iter().chain(within);
    let rule = |(period, reach): (Period, Option<Reach>)| {
        let reach = reach.filter(|r| *r != Reach::Count(0))?;
        Some(Rule { period, reach })
    };
    let tags = args.keep_tags.iter();
    Policy {
        rules: rules.filter_map(rule).collect(),
        tags: tags
            .map(|set| crate::commands::commas(std::slice::from_ref(set)))
            .collect(),
        ids: args
            .keep_ids
            .iter()
            .map(|id| id.to_ascii_lowercase())
            .collect(),
        last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse_reach("7"), Ok(Reach::Count(7)));
        assert_eq!(parse_reach("-1"), Ok(Reach::All));
        assert_eq!(parse_reach("unlimited"), Ok(Reach::All));
        for bad in ["", "-2", "x", "1d", "1.5"] {
            assert!(parse_reach(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_time() {
        let all = Span {
            years: 1,
            months: 5,
            days: 7,
            hours: 2,
        };
        assert_eq!(parse_span("1y5m7d2h"), Ok(all));
        assert_eq!(parse_span("2h7d5m1y"), Ok(all));
        assert_eq!(parse_span("48h").unwrap().hours, 48);
        for bad in [
            "",
            "7",
            "d",
            "1w",
            "0d",
            "-1d",
            "1d1d",
            "1 d",
            "99999999999d",
        ] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups() {
        assert_eq!(parse_groups("host,paths"), Ok(GroupBy::default()));
        let none = parse_groups("").unwrap();
        assert!(!none.host && !none.paths && !none.tags);
        assert!(parse_groups("tags").unwrap().tags);
        assert!(parse_groups("hosst").is_err());
    }
}
