//! Values of SQL Server as text, as its own tools write them.

use std::fmt::Write;

use tiberius::ColumnData;

/// Days from 1 January of the year 1 to 1 January 1900.
const TO_1900: i64 = 693_595;
const DAY: u64 = 86_400;

/// A value as text; `None` for NULL.
pub(super) fn text(value: &ColumnData<'_>) -> Option<String> {
    match value {
        ColumnData::U8(v) => v.map(|v| v.to_string()),
        ColumnData::I16(v) => v.map(|v| v.to_string()),
        ColumnData::I32(v) => v.map(|v| v.to_string()),
        ColumnData::I64(v) => v.map(|v| v.to_string()),
        ColumnData::F32(v) => v.map(|v| v.to_string()),
        ColumnData::F64(v) => v.map(|v| v.to_string()),
        ColumnData::Bit(v) => v.map(|v| u8::from(v).to_string()),
        ColumnData::String(v) => v.as_ref().map(|v| v.to_string()),
        ColumnData::Guid(v) => v.map(|v| v.to_string().to_uppercase()),
        ColumnData::Binary(v) => v.as_ref().map(|v| hex(v)),
        ColumnData::Numeric(v) => v.map(|v| decimal(v.value(), v.scale())),
        ColumnData::Xml(v) => v.as_ref().map(|v| v.as_ref().clone().into_string()),
        ColumnData::DateTime(v) => v.map(|v| {
            let fragments = u64::from(v.seconds_fragments());
            let milliseconds = (fragments * 1000 + 150) / 300;
            let date = date(TO_1900 + i64::from(v.days()));
            format!("{date} {}", time(milliseconds, 3))
        }),
        ColumnData::SmallDateTime(v) => v.map(|v| {
            let date = date(TO_1900 + i64::from(v.days()));
            format!("{date} {}", time(u64::from(v.seconds_fragments()) * 60, 0))
        }),
        ColumnData::Time(v) => v.map(|v| time(v.increments(), v.scale())),
        ColumnData::Date(v) => v.map(|v| date(i64::from(v.days()))),
        ColumnData::DateTime2(v) => v.map(moment),
        // The server sends it in UTC.
        ColumnData::DateTimeOffset(v) => v.map(|v| format!("{} +00:00", moment(v.datetime2()))),
    }
}

fn moment(v: tiberius::time::DateTime2) -> String {
    let date = date(i64::from(v.date().days()));
    format!("{date} {}", time(v.time().increments(), v.time().scale()))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    for byte in bytes {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

fn decimal(value: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    match scale {
        0 => format!("{sign}{digits}"),
        _ => {
            let (whole, part) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{part}")
        }
    }
}

/// A date from the days since 1 January of the year 1 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms": years begin in March there).
fn date(days: i64) -> String {
    let shifted = days + 306;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A time of day from parts of a second of so many digits.
fn time(parts: u64, digits: u8) -> String {
    let second = 10_u64.pow(u32::from(digits));
    let (seconds, part) = (parts / second % DAY, parts % second);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let clock = format!("{hours:02}:{minutes:02}:{seconds:02}");
    match digits {
        0 => clock,
        _ => format!("{clock}.{part:0>width$}", width = usize::from(digits)),
    }
}

#[cfg(test)]
mod tests {
    use tiberius::numeric::Numeric;
    use tiberius::time::{Date, DateTime, DateTime2, SmallDateTime, Time};

    use super::*;

    #[test]
    fn numbers() {
        let numeric = |v, scale| {
            text(&ColumnData::Numeric(Some(Numeric::new_with_scale(
                v, scale,
            ))))
            .unwrap()
        };
        assert_eq!(numeric(31_000_000_020_600_037, 0), "31000000020600037");
        assert_eq!(
            (numeric(-5, 2), numeric(1234, 2)),
            ("-0.05".into(), "12.34".into())
        );
        assert_eq!(text(&ColumnData::I64(Some(-7))).unwrap(), "-7");
        assert_eq!(text(&ColumnData::Bit(Some(true))).unwrap(), "1");
        assert_eq!(
            text(&ColumnData::Binary(Some(vec![0, 171].into()))).unwrap(),
            "0x00AB"
        );
        assert_eq!(text(&ColumnData::String(None)), None);
    }

    #[test]
    fn dates() {
        let datetime =
            |days, parts| text(&ColumnData::DateTime(Some(DateTime::new(days, parts)))).unwrap();
        assert_eq!(datetime(0, 0), "1900-01-01 00:00:00.000");
        assert_eq!(datetime(-53_690, 1), "1753-01-01 00:00:00.003");
        assert_eq!(
            datetime(45_988, 300 * 86_399 + 299),
            "2025-11-29 23:59:59.997"
        );
        let date = |days| text(&ColumnData::Date(Some(Date::new(days)))).unwrap();
        assert_eq!(
            (date(0), date(3_652_058)),
            ("0001-01-01".into(), "9999-12-31".into())
        );
        assert_eq!(
            (date(59), date(730_178)),
            ("0001-03-01".into(), "2000-02-29".into())
        );
        let both = DateTime2::new(Date::new(730_178), Time::new(36_000_000_001, 7));
        let both = text(&ColumnData::DateTime2(Some(both))).unwrap();
        assert_eq!(both, "2000-02-29 01:00:00.0000001");
        let small = text(&ColumnData::SmallDateTime(Some(SmallDateTime::new(1, 61)))).unwrap();
        assert_eq!(small, "1900-01-02 01:01:00");
    }
}
