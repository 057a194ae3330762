//! The binary forms of values that neither library has: JSON as text that is already canonical, instants in
//! microseconds.

use std::error::Error as StdError;
use std::io::Write as _;

use changeover_core::{Json, Timestamp};
use diesel::pg::Pg;
use diesel::serialize::{IsNull as DieselNull, Output, Result as DieselResult, ToSql as DieselToSql};
use diesel::sql_types::{Jsonb, Timestamptz};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// 2000-01-01, from where PostgreSQL counts, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;
/// The one version of jsonb's binary form.
pub(crate) const JSONB: u8 = 1;

/// JSON on its way to the database.
#[derive(Clone, Copy, Debug, diesel::expression::AsExpression)]
#[diesel(sql_type = Jsonb)]
pub(crate) struct JsonOut<'a>(pub &'a Json);

impl ToSql for JsonOut<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&[JSONB]);
        out.extend_from_slice(self.0.as_str().as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

impl DieselToSql<Jsonb, Pg> for JsonOut<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> DieselResult {
        out.write_all(&[JSONB])?;
        out.write_all(self.0.as_str().as_bytes())?;
        Ok(DieselNull::No)
    }
}

/// JSON as the database gave it, not yet checked.
pub(crate) struct JsonIn<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for JsonIn<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        match raw.split_first() {
            Some((&JSONB, text)) => Ok(Self(text)),
            _ => Err("unknown version of jsonb".into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

/// An instant, in microseconds since 1970; from the database also one that the contract does not know.
#[derive(Clone, Copy, Debug, diesel::expression::AsExpression)]
#[diesel(sql_type = Timestamptz)]
pub(crate) struct Micros(pub i64);

impl From<Timestamp> for Micros {
    fn from(value: Timestamp) -> Self {
        Self(value.as_micros())
    }
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.0.saturating_sub(EPOCH).to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl DieselToSql<Timestamptz, Pg> for Micros {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> DieselResult {
        out.write_all(&self.0.saturating_sub(EPOCH).to_be_bytes())?;
        Ok(DieselNull::No)
    }
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}
