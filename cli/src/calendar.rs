//! Days, weeks, months and years of a time zone, for retention.

use hucha_store::clock::Timestamp;
use hucha_store::retention::{Calendar, Civil, Span};
use jiff::tz::TimeZone;

use crate::times::{from_instant, to_instant};

/// The calendar of a zone.
#[derive(Debug, Clone)]
pub struct Zone(pub TimeZone);

impl Calendar for Zone {
    fn civil(&self, time: Timestamp) -> Civil {
        let shown = to_instant(time).to_zoned(self.0.clone());
        let week = shown.date().iso_week_date();
        Civil {
            year: shown.year(),
            month: shown.month(),
            day: shown.day(),
            hour: shown.hour(),
            week_year: week.year(),
            week: week.week(),
        }
    }

    /// Years, months and days are those of the calendar (a month before 31 March is the last of
    /// February), hours are hours. What lies before all time is its beginning.
    fn before(&self, time: Timestamp, span: Span) -> Timestamp {
        let first = Timestamp {
            seconds: i64::MIN,
            nanos: 0,
        };
        let shown = to_instant(time).to_zoned(self.0.clone());
        let days = jiff::Span::new()
            .try_years(span.years)
            .and_then(|s| s.try_months(span.months))
            .and_then(|s| s.try_days(span.days));
        let hours = jiff::Span::new().try_hours(span.hours);
        let (Ok(days), Ok(hours)) = (days, hours) else {
            return first;
        };
        let before = shown.checked_sub(days).and_then(|z| z.checked_sub(hours));
        before.map_or(first, |z| from_instant(z.timestamp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn madrid() -> Zone {
        Zone(TimeZone::get("Europe/Madrid").unwrap())
    }

    fn at(text: &str) -> Timestamp {
        from_instant(text.parse().unwrap())
    }

    #[test]
    fn hours_and_days_where_clocks_change() {
        let zone = madrid();
        // 25 October 2026: 02:00 comes twice, and is one hour for a policy.
        let twice = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"].map(|t| zone.civil(at(t)));
        assert_eq!(twice[0], twice[1]);
        assert_eq!((twice[0].day, twice[0].hour), (25, 2));
        // The day has 25 hours, that before it 24.
        let first = zone.civil(at("2026-10-24T22:00:00Z"));
        let last = zone.civil(at("2026-10-25T22:59:59Z"));
        assert_eq!(
            (first.day, first.hour, last.day, last.hour),
            (25, 0, 25, 23)
        );
        // A day before is the same time of day, 24 hours before are not.
        let noon = at("2026-10-25T11:00:00Z");
        let span = |days, hours| Span {
            days,
            hours,
            ..Span::default()
        };
        assert_eq!(zone.before(noon, span(1, 0)), at("2026-10-24T10:00:00Z"));
        assert_eq!(zone.before(noon, span(0, 24)), at("2026-10-24T11:00:00Z"));
    }

    #[test]
    fn years_of_weeks_and_the_zones_own_midnight() {
        let zone = madrid();
        let civil = zone.civil(at("2026-12-31T23:30:00Z"));
        assert_eq!(
            (civil.year, civil.month, civil.day, civil.hour),
            (2027, 1, 1, 0)
        );
        assert_eq!((civil.week_year, civil.week), (2026, 53));
        let civil = zone.civil(at("2024-12-30T12:00:00Z"));
        assert_eq!((civil.year, civil.week_year, civil.week), (2024, 2025, 1));
    }

    #[test]
    fn spans_over_short_months_and_before_all_time() {
        let zone = Zone(TimeZone::UTC);
        let span = |years, months| Span {
            years,
            months,
            ..Span::default()
        };
        let time = at("2028-03-31T12:00:00Z");
        assert_eq!(zone.before(time, span(0, 1)), at("2028-02-29T12:00:00Z"));
        assert_eq!(zone.before(time, span(1, 1)), at("2027-02-28T12:00:00Z"));
        assert_eq!(zone.before(time, span(u32::MAX, 0)).seconds, i64::MIN);
        assert_eq!(zone.before(time, span(15_000, 0)).seconds, i64::MIN);
    }
}
