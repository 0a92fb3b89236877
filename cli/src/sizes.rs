//! Sizes, shares and durations as people type them.

use hucha_store::snapshot::Every;

/// A text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    /// No size.
    #[error("{0:?} is no size; write 200M, 1.5GiB or a number of bytes")]
    Size(String),
    /// No checkpoints.
    #[error("{0:?} says not when; write 10m, 16G, 10m,16G or never")]
    Every(String),
    /// No duration.
    #[error("{0:?} is no duration; write 90s, 15m, 2h or 1d")]
    Duration(String),
}

/// Bytes: `1500`, `200M`, `1.5GiB`; K, M, G, T count by 1024 as restic's do.
///
/// # Errors
/// When it is anything else.
pub fn parse_size(text: &str) -> Result<u64, BadAmount> {
    let bad = || BadAmount::Size(text.to_owned());
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text
        .get(digits.len()..)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(1 << power).ok_or_else(bad);
    }
    let number = parse_positive(digits).ok_or_else(bad)? * (1u64 << power) as f64;
    if number < 1e18 {
        Ok(number as u64)
    } else {
        Err(bad())
    }
}

/// How much a run reads, or how long, before a checkpoint: `10m`, `16G`, both, or `never`.
///
/// # Errors
/// When it is anything else; nothing may be 0.
pub fn parse_every(text: &str) -> Result<Every, BadAmount> {
    let mut every = Every {
        bytes: u64::MAX,
        seconds: u64::MAX,
    };
    if text == "never" {
        return Ok(every);
    }
    for part in text.split(',').map(str::trim) {
        match (parse_seconds(part), parse_size(part)) {
            // `m` is minutes here, `M` bytes.
            (Ok(seconds), _) if seconds > 0 && !part.ends_with(|c: char| c.is_ascii_digit()) => {
                every.seconds = seconds;
            }
            (_, Ok(bytes)) if bytes > 0 => every.bytes = bytes,
            _ => return Err(BadAmount::Every(text.to_owned())),
        }
    }
    Ok(every)
}

/// A plain decimal number, not negative.
pub fn parse_positive(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    text.parse::<f64>().ok().filter(|n| plain && n.is_finite())
}

/// Seconds: `90`, `90s`, `15m`, `2h`, `1d`.
///
/// # Errors
/// When it is anything else.
pub fn parse_seconds(text: &str) -> Result<u64, BadAmount> {
    let bad = || BadAmount::Duration(text.to_owned());
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(factor).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("1500B", 1500),
            ("200M", 200 << 20),
            ("1.5GiB", 3 << 29),
            ("2kb", 2048),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1e3",
            "5%",
            "1X",
            "1 M",
            "99999999T",
            "nan",
            "inf",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_seconds("90"), Ok(90));
        assert_eq!(parse_seconds("15m"), Ok(900));
        assert_eq!(parse_seconds("1d"), Ok(86_400));
        for bad in ["", "m", "1.5h", "-3", "2w", "99999999999999999999d"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
