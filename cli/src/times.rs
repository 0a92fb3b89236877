//! Dates and times as people type and read them, in the local time zone.

use hucha_store::clock::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp as Instant, ToSpan, Zoned};

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time; write 2026-11-20, 2026-11-20 03:00:00, or 2026-11-20T03:00:00Z")]
pub struct BadTime(pub String);

/// The core's form of a moment.
pub fn from_instant(instant: Instant) -> Timestamp {
    let total = instant.as_nanosecond();
    Timestamp {
        seconds: i64::try_from(total.div_euclid(1_000_000_000)).unwrap_or(0),
        nanos: u32::try_from(total.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

/// jiff's form of a moment; what it cannot hold becomes the nearest it can.
pub fn to_instant(time: Timestamp) -> Instant {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    let far = || {
        if time.seconds < 0 {
            Instant::MIN
        } else {
            Instant::MAX
        }
    };
    Instant::new(time.seconds, nanos).unwrap_or_else(|_| far())
}

/// Seconds that the zone is ahead of UTC at a moment.
pub fn offset_at(zone: &TimeZone, time: Timestamp) -> i64 {
    i64::from(zone.to_offset(to_instant(time)).seconds())
}

/// RFC 3339 with an offset in seconds, for JSON.
pub fn rfc3339(time: Timestamp, offset: i64) -> String {
    let offset = i32::try_from(offset).unwrap_or(0);
    let offset = Offset::from_seconds(offset).unwrap_or(Offset::UTC);
    let zoned = to_instant(time).to_zoned(TimeZone::fixed(offset));
    zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
}

/// `20261120_030000` in a zone, for names of files and databases.
pub fn stamp(time: Timestamp, zone: &TimeZone) -> String {
    let zoned = to_instant(time).to_zoned(zone.clone());
    zoned.strftime("%Y%m%d_%H%M%S").to_string()
}

/// `2026-11-20 03:00:00` in a zone, for people.
pub fn local(time: Timestamp, zone: &TimeZone) -> String {
    let zoned = to_instant(time).to_zoned(zone.clone());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time or date at the beginning of a text: what it says, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typed {
    date: Date,
    time: Option<Time>,
    offset: Option<Offset>,
    /// Parts of a second were typed.
    exact: bool,
    /// Bytes that belong to it.
    pub len: usize,
}

impl Typed {
    /// Reads a time at the beginning of a text. Seconds belong to it only when two digits and
    /// something else than a digit or a letter follow the second colon.
    pub fn at_start(text: &[u8]) -> Option<Typed> {
        let mut at = Scanner { text, at: 0 };
        let year = at.number(4)?;
        at.byte(b'-')?;
        let month = at.number(2)?;
        at.byte(b'-')?;
        let day = at.number(2)?;
        let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
        let mut typed = Typed {
            date,
            time: None,
            offset: None,
            exact: false,
            len: at.at,
        };
        if at.byte(b'T').or_else(|| at.byte(b' ')).is_some() {
            typed.read_time(&mut at)?;
        }
        Some(typed)
    }

    fn read_time(&mut self, at: &mut Scanner<'_>) -> Option<()> {
        let (hour, _) = (at.number(2)?, at.byte(b':')?);
        let minute = at.number(2)?;
        let before = at.at;
        let mut seconds = at.byte(b':').and_then(|()| at.number(2));
        if seconds.is_none()
            || at
                .peek()
                .is_some_and(|c| c.is_ascii_alphanumeric() && c != b'Z')
        {
            at.at = before;
            seconds = None;
        }
        let mut nanos = 0;
        if seconds.is_some() && at.byte(b'.').is_some() {
            nanos = at.fraction()?;
            self.exact = true;
        }
        let part = |n: i16| i8::try_from(n).ok();
        let time = Time::new(
            part(hour)?,
            part(minute)?,
            part(seconds.unwrap_or(0))?,
            nanos,
        );
        self.time = Some(time.ok()?);
        self.offset = at.offset()?;
        self.len = at.at;
        Some(())
    }

    /// The moment; of a date its beginning.
    pub fn moment(&self, zone: &TimeZone) -> Option<Timestamp> {
        self.zoned(self.time.unwrap_or(Time::midnight()), zone)
            .map(|z| from_instant(z.timestamp()))
    }

    /// The last moment that what was typed may mean: the end of a day, or of a second.
    pub fn end(&self, zone: &TimeZone) -> Option<Timestamp> {
        let Some(time) = self.time else {
            let next = self.date.tomorrow().ok()?;
            let start = next.to_zoned(zone.clone()).ok()?.timestamp();
            return Some(from_instant(start.checked_sub(1.nanosecond()).ok()?));
        };
        let mut moment = from_instant(self.zoned(time, zone)?.timestamp());
        if !self.exact {
            moment.nanos = 999_999_999;
        }
        Some(moment)
    }

    fn zoned(&self, time: Time, zone: &TimeZone) -> Option<Zoned> {
        let zone = self.offset.map_or_else(|| zone.clone(), TimeZone::fixed);
        DateTime::from_parts(self.date, time).to_zoned(zone).ok()
    }
}

/// Reads `--time`.
///
/// # Errors
/// When it is neither `now` nor a date or time.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, BadTime> {
    if text == "now" {
        return Ok(now);
    }
    Typed::at_start(text.as_bytes())
        .filter(|typed| typed.len == text.len())
        .and_then(|typed| typed.moment(zone))
        .ok_or_else(|| BadTime(text.to_owned()))
}

/// The same, and of a date or a whole second its end.
///
/// # Errors
/// As [`parse`].
pub fn parse_end(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, BadTime> {
    if text == "now" {
        return Ok(now);
    }
    Typed::at_start(text.as_bytes())
        .filter(|typed| typed.len == text.len())
        .and_then(|typed| typed.end(zone))
        .ok_or_else(|| BadTime(text.to_owned()))
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn number(&mut self, digits: usize) -> Option<i16> {
        let part = self.text.get(self.at..self.at + digits)?;
        let value = part.iter().try_fold(0i16, |sum, c| {
            c.is_ascii_digit().then(|| sum * 10 + i16::from(c - b'0'))
        })?;
        self.at += digits;
        Some(value)
    }

    /// One to nine digits after the point, as nanoseconds.
    fn fraction(&mut self) -> Option<i32> {
        let (mut nanos, mut unit) = (0i32, 100_000_000i32);
        let start = self.at;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            nanos += i32::from(digit - b'0') * unit;
            unit /= 10;
            self.at += 1;
        }
        (1..=9).contains(&(self.at - start)).then_some(nanos)
    }

    /// `Z`, `+03:00`, `-0300`, `+03`, or nothing; `None` when it is malformed.
    fn offset(&mut self) -> Option<Option<Offset>> {
        let sign = match self.peek() {
            Some(b'Z') => {
                self.at += 1;
                return Some(Some(Offset::UTC));
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Some(None),
        };
        self.at += 1;
        let hours = i32::from(self.number(2)?);
        let before = self.at;
        let _ = self.byte(b':');
        let minutes = self.number(2).map_or_else(
            || {
                self.at = before;
                0
            },
            i32::from,
        );
        let seconds = sign * (hours * 3600 + minutes * 60);
        Offset::from_seconds(seconds).ok().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(-3))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    const MIDNIGHT: i64 = 1_795_143_600; // 2026-11-20T03:00:00Z

    #[test]
    fn times_of_the_option() {
        let now = at(5);
        let read = |text: &str| parse(text, now, &zone());
        assert_eq!(read("now"), Ok(now));
        assert_eq!(read("2026-11-20"), Ok(at(MIDNIGHT)));
        assert_eq!(read("2026-11-20 00:00:00"), Ok(at(MIDNIGHT)));
        assert_eq!(read("2026-11-20T00:00"), Ok(at(MIDNIGHT)));
        assert_eq!(read("2026-11-20T03:00:00Z"), Ok(at(MIDNIGHT)));
        assert_eq!(read("2026-11-20T05:30:00+02:30"), Ok(at(MIDNIGHT)));
        assert_eq!(read("2026-11-20T01:00:00-02"), Ok(at(MIDNIGHT)));
        let half = Timestamp {
            seconds: MIDNIGHT,
            nanos: 500_000_000,
        };
        assert_eq!(read("2026-11-20T03:00:00.5Z"), Ok(half));
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11-20T",
            "2026-11-20 3:00",
            "2026-11-20x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_date_reaches_to_its_end_and_a_second_too() {
        let end = |text: &str| {
            Typed::at_start(text.as_bytes())
                .unwrap()
                .end(&zone())
                .unwrap()
        };
        let last = |seconds| Timestamp {
            seconds,
            nanos: 999_999_999,
        };
        assert_eq!(end("2026-11-20"), last(MIDNIGHT + 86_399));
        assert_eq!(end("2026-11-20 00:00:00"), last(MIDNIGHT));
        assert_eq!(end("2026-11-20 00:00:00.25").nanos, 250_000_000);
    }

    #[test]
    fn printed_and_read_again() {
        let time = Timestamp {
            seconds: MIDNIGHT + 7,
            nanos: 123_456_789,
        };
        let text = rfc3339(time, -10_800);
        assert_eq!(text, "2026-11-20T00:00:07.123456789-03:00");
        assert_eq!(parse(&text, at(0), &TimeZone::UTC), Ok(time));
        assert_eq!(local(time, &zone()), "2026-11-20 00:00:07");
        let old = Timestamp {
            seconds: -1,
            nanos: 1,
        };
        assert_eq!(from_instant(to_instant(old)), old);
    }
}
