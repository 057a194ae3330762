//! Retention.

use changeover_core::audit::{Retain, Retained};
use changeover_core::{Applied, Result};

use super::Trail;
use crate::module::{explained, unreadable};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

impl Trail {
    pub(super) async fn retain(&self, request: &Retain) -> Result<Retained> {
        let categories: Vec<_> = request.rules.iter().map(|rule| rule.category.as_str()).collect();
        let today = request.now.as_micros().div_euclid(DAY);
        // The last day that is due. No time is so early that it does not fit, and what is not is never due.
        let last_days: Vec<_> = request
            .rules
            .iter()
            .map(|rule| {
                i32::try_from(today.saturating_sub(rule.days.into())).unwrap_or(i32::MIN).max(EARLIEST)
            })
            .collect();
        let mut conn = self.conn().await.map_err(|error| error.applied(Applied::No))?;
        let answer = conn
            .write(
                &self.statements.retain,
                &[
                    &self.tenant.as_str(),
                    &categories,
                    &last_days,
                    &i64::from(request.limit.get()),
                    &request.dry_run,
                ],
            )
            .await;
        let rows = match answer {
            Ok(rows) => rows,
            Err(error) => return Err(explained(&mut conn, &self.scope, error).await),
        };
        let unknown = || unreadable().applied(Applied::Unknown);
        let row = rows.first().ok_or_else(unknown)?;
        let counts: Vec<i64> = row.try_get(0).map_err(|_| unknown())?;
        if counts.len() != request.rules.len() {
            return Err(unknown());
        }
        let removed = request
            .rules
            .iter()
            .zip(counts)
            .map(|(rule, count)| Ok((rule.category.clone(), u64::try_from(count).map_err(|_| unknown())?)))
            .collect::<Result<_>>()?;
        Ok(Retained {
            removed,
            months: row.try_get(1).map_err(|_| unknown())?,
            done: row.try_get(2).map_err(|_| unknown())?,
        })
    }
}

/// A day before all events that PostgreSQL still has a date for.
const EARLIEST: i32 = -700_000;
