//! `audit partitions`: the months that PostgreSQL keeps records in.

use changeover::audit::AuditFilter;
use changeover::{Audit, AuditRepository, Error, ErrorKind, Timestamp};
use serde::Serialize;

use crate::exit::{Failure, Status};
use crate::output::Out;

/// A month, as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    month: &'a str,
    exists: bool,
    /// Of this tenant.
    records: u64,
    /// Of all tenants.
    bytes: u64,
}

pub async fn partitions(
    audit: &Audit,
    repository: &dyn AuditRepository,
    create: bool,
    out: &mut Out,
) -> Result<Status, Failure> {
    if create {
        match audit.create_months().await {
            Ok(made) if made.is_empty() => out.note("no month was missing")?,
            Ok(made) => out.note(&format!("made {}", made.join(", ")))?,
            Err(error) => return there_are_none(error, out),
        }
    }
    let months = match audit.months().await {
        Ok(months) => months,
        Err(error) => return there_are_none(error, out),
    };
    let mut rows = Vec::new();
    for month in &months.there {
        let records = repository.count(within(&month.month)?).await?;
        rows.push(Row { month: &month.month, exists: true, records, bytes: month.bytes });
    }
    rows.extend(months.missing.iter().map(|month| Row { month, exists: false, records: 0, bytes: 0 }));
    if out.is_json() {
        rows.iter().try_for_each(|row| out.object(row))?;
    } else {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let state = if row.exists { "" } else { "missing" };
                [row.month.to_owned(), row.records.to_string(), row.bytes.to_string(), state.to_owned()]
            })
            .collect();
        out.rows(["month", "records", "bytes", "state"], &rows)?;
    }
    if months.missing.is_empty() {
        return Ok(Status::Done);
    }
    Err(Failure::refused(format!(
        "{} of the coming months are missing; `changeover audit partitions --create` makes them",
        months.missing.len()
    )))
}

/// SQLite keeps everything in one table, which is as it should be.
fn there_are_none(error: Error, out: &mut Out) -> Result<Status, Failure> {
    if error.kind() != ErrorKind::Unsupported {
        return Err(error.into());
    }
    out.note(&format!("there are no partitions: {}", error.message()))?;
    Ok(Status::Done)
}

/// The records of a month like `2024-01`.
fn within(month: &str) -> Result<AuditFilter, Failure> {
    let (year, of_year) = month.split_once('-').unwrap_or_default();
    let (Ok(year), Ok(of_year)) = (year.parse::<u16>(), of_year.parse::<u16>()) else {
        return Err(Failure::failed(format!("the backend names a month {month:?}; this is a defect of it")));
    };
    let (next_year, next) = if of_year >= 12 { (year + 1, 1) } else { (year, of_year + 1) };
    let begin = |year: u16, month: u16| Timestamp::parse(&format!("{year:04}-{month:02}-01T00:00:00Z"));
    let (start, end) = (begin(year, of_year)?, begin(next_year, next)?);
    Ok(AuditFilter { start: Some(start), end: Some(end), ..AuditFilter::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let bounds = |month| {
            let filter = within(month).unwrap();
            [filter.start, filter.end].map(|at| at.unwrap().date().to_string())
        };
        assert_eq!(bounds("2024-02"), ["2024-02-01", "2024-03-01"]);
        assert_eq!(bounds("2024-12"), ["2024-12-01", "2025-01-01"]);
        assert!(within("default").is_err());
    }
}
