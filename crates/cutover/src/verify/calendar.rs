//! Dates and times of day, counted by the verifier itself.

/// 0001-01-01T00:00:00Z in microseconds since 1970.
const FIRST: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z in microseconds since 1970.
const LAST: i64 = 253_402_300_799_999_999;

/// Microseconds of what both stores can hold.
pub(super) fn in_range(micros: i64) -> Option<i64> {
    (FIRST..=LAST).contains(&micros).then_some(micros)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

/// Days since 1970 of `YYYY-MM-DD`, for days that exist.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *text else { return None };
    let (year, month, day) = (number(&[y0, y1, y2, y3])?, number(&[m0, m1])?, number(&[d0, d1])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=longest).contains(&day) {
        return None;
    }
    // Years that begin in March, so that a leap day is the last of them.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * m + 2) / 5 + day - 1;
    Some(y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + day_of_year - 719_468)
}

/// Seconds since 1970 of a date and `HH:MM:SS` behind one byte between them, with no regard to any offset.
pub(super) fn date_and_time(text: &[u8]) -> Option<i64> {
    let (day, time) = (text.get(..10)?, text.get(11..19)?);
    let [h0, h1, b':', m0, m1, b':', s0, s1] = *time else { return None };
    let (hour, minute, second) = (number(&[h0, h1])?, number(&[m0, m1])?, number(&[s0, s1])?);
    let exists = hour < 24 && minute < 60 && second < 60;
    exists.then(|| date(day).map(|days| days * 86_400 + hour * 3_600 + minute * 60 + second))?
}

/// `YYYY-MM-DD` of days since 1970.
pub(super) fn date_text(days: i64) -> String {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ` of microseconds since 1970.
pub(super) fn rfc3339(micros: i64) -> String {
    let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{rest:06}Z", date_text(days))
}

#[cfg(test)]
mod tests {
    use changeover_core::Timestamp;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // The verifier counts by itself; chrono, by which core counts, must come to the same.
        #[test]
        fn every_instant_is_written_and_read_as_core_does(micros in FIRST..=LAST) {
            let text = rfc3339(micros);
            prop_assert_eq!(&text, &Timestamp::from_micros(micros).unwrap().to_string());
            prop_assert_eq!(date_and_time(text.as_bytes()), Some(micros.div_euclid(1_000_000)));
            prop_assert_eq!(date(&text.as_bytes()[..10]), Some(micros.div_euclid(86_400_000_000)));
        }
    }

    #[test]
    fn days_and_times_that_do_not_exist_are_refused() {
        for text in
            ["2024-02-30", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-10", "2024-1-010", "24-01-01"]
        {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
        assert!(date(b"2000-02-29").is_some());
        for text in ["2024-01-01T24:00:00", "2024-01-01T00:60:00", "2024-01-01T00:00:60", "2024-01-01T00:00"]
        {
            assert_eq!(date_and_time(text.as_bytes()), None, "{text}");
        }
    }
}
